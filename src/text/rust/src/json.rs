//! `tojson` as `transformers` gives it to templates: Python's json.dumps, without HTML escapes.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

const MAX_DEPTH: usize = 100;
const MAX_INDENT: usize = 16;

/// The text has at most `max_bytes`: more would not fit the template's output.
pub fn to_json(value: Value, kwargs: Kwargs, max_bytes: usize) -> Result<String, Error> {
    let indent = kwargs.get::<Option<Value>>("indent")?.map(read_indent).transpose()?.flatten();
    let (between, behind_key) = match kwargs.get::<Option<Vec<Value>>>("separators")? {
        Some(pair) => match pair.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
            [Some(between), Some(behind_key)] => (between.to_owned(), behind_key.to_owned()),
            _ => return Err(refusal("separators are two strings")),
        },
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        indent,
        between,
        behind_key,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        max_bytes,
        out: String::new(),
    };
    kwargs.assert_all_used()?;
    writer.write(&value, 0)?;
    Ok(writer.out)
}

fn refusal(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {reason}"))
}

/// A number of blanks, or what stands for a level.
fn read_indent(value: Value) -> Result<Option<String>, Error> {
    if value.is_none() || value.is_undefined() {
        return Ok(None);
    }
    let text = match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => value.as_usize().filter(|n| *n <= MAX_INDENT).map(|n| " ".repeat(n)),
    };
    text.filter(|text| text.len() <= MAX_INDENT)
        .map(Some)
        .ok_or_else(|| refusal(&format!("indent must lie in 0 to {MAX_INDENT}")))
}

struct Writer {
    indent: Option<String>,
    between: String,
    behind_key: String,
    sort_keys: bool,
    ensure_ascii: bool,
    max_bytes: usize,
    out: String,
}

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refusal(&format!("the value is nested more than {MAX_DEPTH} deep")));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.separate(empty, depth + 1)?;
                    self.write(&item, depth + 1)?;
                    empty = false;
                }
                self.close(']', empty, depth)
            }
            ValueKind::Map => self.write_object(value, depth),
            ValueKind::String => self.write_string(value.as_str().unwrap_or_default()),
            _ => {
                self.out.push_str(&leaf(value)?);
                Ok(())
            }
        }
    }

    fn write_object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        for (i, key) in keys.iter().enumerate() {
            self.separate(i == 0, depth + 1)?;
            match key.as_str() {
                Some(text) => self.write_string(text)?,
                None => self.write_string(&leaf(key)?)?,
            }
            self.out.push_str(&self.behind_key);
            self.write(&value.get_item(key)?, depth + 1)?;
        }
        self.close('}', keys.is_empty(), depth)
    }

    fn write_string(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            self.out.push_str(&quoted);
            return self.check_size();
        }
        for c in quoted.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                self.out.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        self.check_size()
    }

    fn separate(&mut self, first: bool, depth: usize) -> Result<(), Error> {
        if !first {
            self.out.push_str(&self.between);
        }
        self.new_line(depth);
        self.check_size()
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) -> Result<(), Error> {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
        self.check_size()
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn check_size(&self) -> Result<(), Error> {
        if self.out.len() > self.max_bytes {
            return Err(refusal(&format!("the text is longer than {} bytes", self.max_bytes)));
        }
        Ok(())
    }
}

/// What has no parts: a number, true, false, null.
fn leaf(value: &Value) -> Result<String, Error> {
    if !matches!(
        value.kind(),
        ValueKind::Number | ValueKind::Bool | ValueKind::None | ValueKind::Undefined
    ) {
        return Err(refusal(&format!("a {} has no JSON form", value.kind())));
    }
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}
