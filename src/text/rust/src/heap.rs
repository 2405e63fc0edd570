//! Where the library's memory comes from: mimalloc. Cutting a text takes some twenty small blocks
//! for each word, and the system's allocator a third of the time.

use libmimalloc_sys::mi_collect;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_void, CStr};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

pub struct Heap;

/// Longer blocks are the system's, which lengthens them without a second copy beside the first.
const MAX_SMALL_BYTES: usize = 32 << 10;

fn is_small(bytes: usize) -> bool {
    bytes <= MAX_SMALL_BYTES && !is_watched()
}

unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_small(layout.size()) {
            MiMalloc.alloc(layout)
        } else {
            System.alloc(layout)
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_small(layout.size()) {
            MiMalloc.alloc_zeroed(layout)
        } else {
            System.alloc_zeroed(layout)
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (is_small(layout.size()), is_small(size)) {
            (true, true) => MiMalloc.realloc(block, layout, size),
            (false, false) => System.realloc(block, layout, size),
            _ => self.moved(block, layout, size),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_small(layout.size()) {
            MiMalloc.dealloc(block, layout)
        } else {
            System.dealloc(block, layout)
        }
    }
}

impl Heap {
    /// Null, and the block is as it was, where there is no memory.
    unsafe fn moved(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let to = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
        if !to.is_null() {
            std::ptr::copy_nonoverlapping(block, to, size.min(layout.size()));
            self.dealloc(block, layout);
        }
        to
    }
}

/// Gives what was freed back to the system, which the heap would otherwise keep for what comes: some
/// 30 MB when a tokenizer is built.
pub fn trim() {
    if !is_watched() {
        unsafe { mi_collect(true) }
    }
}

/// Whether a sanitizer is in the process: it sees what leaks, or is used after it was freed, only in
/// the system's allocator. One library serves both kinds of build, and the answer never changes.
fn is_watched() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    match ANSWER.load(Relaxed) {
        UNKNOWN => {
            let watched = [c"__asan_init", c"__tsan_init"].into_iter().any(is_in_process);
            ANSWER.store(if watched { YES } else { NO }, Relaxed);
            watched
        }
        answer => answer == YES,
    }
}

fn is_in_process(function: &CStr) -> bool {
    extern "C" {
        fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    }
    const ANYWHERE: *mut c_void = std::ptr::null_mut(); // RTLD_DEFAULT
    !unsafe { dlsym(ANYWHERE, function.as_ptr()) }.is_null()
}
