//! A call whose memory and native stack are bounded.
//!
//! A template may double a string with every step and nest a list a hundred thousand deep, and
//! neither is visible to a count of steps. The work therefore runs on a thread of its own, with a
//! stack for the deepest value that the steps allow, and the allocator counts what that thread
//! holds. There is no way back out of an allocator (it may not unwind, and a failure ends the
//! process): a thread that asks for too much reports it and never goes on.

use crate::abi::guarded;
use crate::heap::Heap;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, RefCell};
use std::sync::mpsc::{channel, Sender};

/// What the work may hold, and more for each byte that it is given.
const MIN_BYTES: u64 = 128 << 20;
pub const MAX_BYTES_PER_INPUT_BYTE: u64 = 16;
/// A text that grows is held twice while it moves, and doubles.
const BYTES_PER_OUTPUT_BYTE: u64 = 8;

/// Dropping a nested value takes a few hundred bytes of stack a level. A level costs at least three
/// steps, and holds at least 64 bytes: a list of one, and what counts its holders.
const STACK_BYTES_PER_LEVEL: u64 = 805;
const STEPS_PER_LEVEL: u64 = 3;
const BYTES_PER_LEVEL: u64 = 64;
const MIN_STACK_BYTES: u64 = 256 << 20;

/// Looked at whenever the thread allocates. Only a value that holds itself comes near: printing or
/// comparing it never ends, and the next allocation comes at the latest at twice the depth.
const MAX_CALL_BYTES: usize = (MIN_STACK_BYTES / 8) as usize;

/// What one call may take of memory and of stack; the latter is address space, touched as far as it
/// is used.
pub struct Budget {
    fixed_bytes: u64,
    bytes: u64,
    stack_bytes: usize,
}

impl Budget {
    pub fn new(steps: u64, output_bytes: u64, input_bytes: usize) -> Self {
        let fixed_bytes = MIN_BYTES.max(BYTES_PER_OUTPUT_BYTE * output_bytes);
        let bytes = fixed_bytes + MAX_BYTES_PER_INPUT_BYTE * input_bytes as u64;
        let levels = (steps / STEPS_PER_LEVEL).min(bytes / BYTES_PER_LEVEL);
        let stack_bytes = MIN_STACK_BYTES.max(STACK_BYTES_PER_LEVEL * levels) as usize;
        Self { fixed_bytes, bytes, stack_bytes }
    }

    /// Without what the input allows.
    pub fn fixed_bytes(&self) -> u64 {
        self.fixed_bytes
    }
}

const UNBOUNDED: i64 = i64::MAX;

type Work = Result<Vec<u8>, String>;

thread_local! {
    static BYTES_LEFT: Cell<i64> = const { Cell::new(UNBOUNDED) };
    static STACK_BEGIN: Cell<usize> = const { Cell::new(0) };
    static REPORT: RefCell<Option<Sender<Option<Work>>>> = const { RefCell::new(None) };
}

/// What became of a bounded call.
pub enum Outcome {
    Done(Work),
    /// It asked for more than there is; what it holds is never given back.
    Exhausted,
}

pub fn bounded(budget: Budget, work: impl FnOnce() -> Work + Send + 'static) -> Outcome {
    let max_bytes = budget.bytes as i64;
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().stack_size(budget.stack_bytes).spawn(move || {
        REPORT.set(Some(sender.clone()));
        STACK_BEGIN.set(stack_pointer());
        BYTES_LEFT.set(max_bytes);
        let result = guarded(work);
        BYTES_LEFT.set(UNBOUNDED);
        let _ = sender.send(Some(result)); // the receiver waits for it
    });
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Outcome::Done(Err(format!("no thread for the template: {error}"))),
    };
    match receiver.recv() {
        Ok(Some(result)) => {
            let _ = thread.join(); // its panics are in `result`
            Outcome::Done(result)
        }
        _ => Outcome::Exhausted,
    }
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        Heap.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        Heap.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give_back(layout.size());
        Heap.realloc(block, layout, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        give_back(layout.size());
        Heap.dealloc(block, layout)
    }
}

fn take(size: usize) {
    let left = BYTES_LEFT.get();
    if left == UNBOUNDED {
        return;
    }
    BYTES_LEFT.set(left - size as i64); // a layout's size fits
    if left < size as i64 || STACK_BEGIN.get() - stack_pointer() > MAX_CALL_BYTES {
        stop_for_good();
    }
}

/// About; stacks grow downwards.
#[inline(never)]
fn stack_pointer() -> usize {
    let here = 0u8;
    std::hint::black_box(&here) as *const u8 as usize
}

fn give_back(size: usize) {
    let left = BYTES_LEFT.get();
    if left != UNBOUNDED {
        BYTES_LEFT.set(left + size as i64);
    }
}

#[cold]
fn stop_for_good() -> ! {
    BYTES_LEFT.set(UNBOUNDED); // the report itself may allocate
    REPORT.with_borrow(|report| {
        if let Some(report) = report {
            let _ = report.send(None);
        }
    });
    loop {
        std::thread::park();
    }
}
