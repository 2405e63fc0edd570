//! Chat templates as `transformers` renders them: Jinja with the Python methods that templates use,
//! bounded in steps, depth, memory and output.

use crate::abi::{answer, free, guarded, Bytes, Text};
use crate::json::to_json;
use crate::memory::{bounded, Budget, Outcome, MAX_BYTES_PER_INPUT_BYTE};
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

const NAME: &str = "chat";

/// What a render may take (rust_abi.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Limits {
    steps: u64,
    depth: u64,
    output_bytes: u64,
}

pub struct Handle {
    environment: Arc<Environment<'static>>,
    limits: Limits,
    /// It once asked for too much memory, which is not given back: it is not run again.
    exhausted: AtomicBool,
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_template_new(
    source: Text,
    limits: Limits,
    error: *mut Bytes,
) -> *mut Handle {
    let made = guarded(|| {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(limits.steps));
        environment.set_recursion_limit(limits.depth as usize);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let output_bytes = limits.output_bytes as usize;
        environment.add_filter("tojson", move |value: Value, kwargs: Kwargs| {
            to_json(value, kwargs, output_bytes)
        });
        // For people who write templates; on nested values their time has no bound.
        environment.remove_filter("pprint");
        environment.remove_global("debug");
        environment
            .add_template_owned(NAME, without_generation_tags(source.as_str()?))
            .map_err(|e| e.to_string())?;
        Ok(Box::new(Handle {
            environment: Arc::new(environment),
            limits,
            exhausted: AtomicBool::new(false),
        }))
    });
    match made {
        Ok(handle) => Box::into_raw(handle),
        Err(reason) => {
            answer(error, || Err(reason));
            std::ptr::null_mut()
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_template_free(handle: *mut Handle) {
    free(|| drop(Box::from_raw(handle)));
}

/// `variables` is a JSON object. On failure the bytes are the template's own message where it
/// raised one.
#[no_mangle]
pub unsafe extern "C" fn tidemill_template_render(
    handle: *const Handle,
    variables: Text,
    out: *mut Bytes,
) -> bool {
    answer(out, || {
        let handle = &*handle;
        let variables = variables.as_str()?.to_owned();
        let environment = handle.environment.clone();
        let limits = handle.limits;
        let budget = Budget::new(limits.steps, limits.output_bytes, variables.len());
        let max_bytes = budget.fixed_bytes();
        if !handle.exhausted.load(Ordering::Relaxed) {
            match bounded(budget, move || render(&environment, &variables, limits)) {
                Outcome::Done(result) => return result,
                Outcome::Exhausted => handle.exhausted.store(true, Ordering::Relaxed),
            }
        }
        Err(format!(
            "the template took more than {max_bytes} bytes of memory and \
             {MAX_BYTES_PER_INPUT_BYTE} for each byte of its input"
        ))
    })
}

fn render(
    environment: &Environment<'_>,
    variables: &str,
    limits: Limits,
) -> Result<Vec<u8>, String> {
    let variables: serde_json::Value =
        serde_json::from_str(variables).map_err(|e| e.to_string())?;
    let template = environment.get_template(NAME).map_err(|e| e.to_string())?;
    let max_bytes = limits.output_bytes as usize;
    let mut output = Bounded { bytes: Vec::new(), max_bytes, full: false };
    match template.render_captured_to(Value::from_serialize(&variables), &mut output) {
        Ok(_) => Ok(output.bytes),
        Err(_) if output.full => Err(format!("the template wrote more than {max_bytes} bytes")),
        Err(error) => Err(message_of(&error, limits.steps)),
    }
}

/// The reason without file, line and kind, which say nothing to a client.
fn message_of(error: &Error, max_steps: u64) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => format!("the template took more than {max_steps} steps"),
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max_bytes {
            self.full = true;
            return Err(std::io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `{% generation %}` marks what a trainer learns from; to a server it is `{% if true %}`, which
/// keeps the blanks around it as they are.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(begin) = rest.find("{%") {
        // Behind the mark: `{%}` does not end with the percent sign that it begins with.
        let Some(length) = rest[begin + 2..].find("%}") else { break };
        let inner = &rest[begin + 2..begin + 2 + length];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => Some(inner.replace("generation", "if true")),
            "endgeneration" => Some(inner.replace("endgeneration", "endif")),
            _ => None,
        };
        out.push_str(&rest[..begin + 2]);
        out.push_str(replacement.as_deref().unwrap_or(inner));
        out.push_str("%}");
        rest = &rest[begin + 2 + length + 2..];
    }
    out.push_str(rest);
    out
}

/// The C library's broken-down time (Linux).
#[repr(C)]
struct Tm {
    fields: [i32; 9],
    gmtoff: i64,
    zone: *const u8,
}

extern "C" {
    fn time(out: *mut i64) -> i64;
    fn localtime_r(time: *const i64, out: *mut Tm) -> *mut Tm;
    fn strftime(out: *mut u8, size: usize, format: *const u8, time: *const Tm) -> usize;
}

fn strftime_now(format: String) -> Result<String, Error> {
    let refuse = |reason| Error::new(ErrorKind::InvalidOperation, reason);
    let format =
        std::ffi::CString::new(format).map_err(|_| refuse("strftime_now: NUL in format"))?;
    let mut broken_down = Tm { fields: [0; 9], gmtoff: 0, zone: std::ptr::null() };
    let mut buffer = [0u8; 256];
    let length = unsafe {
        let now = time(std::ptr::null_mut());
        localtime_r(&now, &mut broken_down);
        strftime(buffer.as_mut_ptr(), buffer.len(), format.as_ptr().cast(), &broken_down)
    };
    String::from_utf8(buffer[..length].to_vec()).map_err(|_| refuse("strftime_now: not UTF-8"))
}
