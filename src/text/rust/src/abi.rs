//! What crosses the boundary: borrowed text in, owned bytes out, errors as text.

use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::Once;

/// Borrowed UTF-8 from the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    data: *const u8,
    len: usize,
}

impl Text {
    /// # Safety
    /// `data` points at `len` readable bytes for the duration of the call.
    pub unsafe fn as_str<'a>(self) -> Result<&'a str, String> {
        if self.len == 0 {
            return Ok("");
        }
        let bytes = std::slice::from_raw_parts(self.data, self.len);
        std::str::from_utf8(bytes)
            .map_err(|error| format!("the text is not UTF-8 at byte {}", error.valid_up_to()))
    }
}

/// Owned bytes given to the caller.
#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    len: usize,
}

impl Bytes {
    fn new(content: Vec<u8>) -> Self {
        let content = content.into_boxed_slice();
        let len = content.len();
        Bytes { data: Box::into_raw(content) as *mut u8, len }
    }
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_bytes_free(bytes: Bytes) {
    if !bytes.data.is_null() {
        free(|| drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(bytes.data, bytes.len))));
    }
}

/// Runs `work`; writes its bytes, or the reason why there are none, to `out`. True on success.
pub unsafe fn answer(out: *mut Bytes, work: impl FnOnce() -> Result<Vec<u8>, String>) -> bool {
    let (bytes, ok) = match guarded(work) {
        Ok(bytes) => (bytes, true),
        Err(reason) => (reason.into_bytes(), false),
    };
    out.write(Bytes::new(bytes));
    ok
}

static SILENCE: Once = Once::new();

/// A panic becomes an error like any other, and nothing else: the standard library would print its
/// message, which may quote the text of a request, to the log.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    SILENCE.call_once(|| set_hook(Box::new(|_| {})));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown reason");
        Err(format!("the text library failed: {reason}"))
    })
}

/// Frees something. A panic on the way costs what was not freed yet: there is nobody to tell.
pub fn free(work: impl FnOnce()) {
    let _ = guarded(|| {
        work();
        Ok(())
    });
}
