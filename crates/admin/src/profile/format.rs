//! The profile format of google/pprof (`profile.proto`), as far as it is used here.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// A function at a place of a stack. Functions that were inlined into each other share a place, the
/// innermost first.
pub(crate) struct Frame {
    pub(crate) function: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// Builds a profile. Texts, functions and places are stored once.
pub(crate) struct Builder {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<Vec<Line>, u64>,
}

impl Builder {
    /// An empty profile. `values` are the names and units of the values of each sample. The last of
    /// them is also the type of the period.
    pub(crate) fn new(values: &[(&str, &str)], period: i64, took: Duration) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        // Index 0 must be the empty text.
        builder.string("");
        for (name, unit) in values {
            let value = ValueType {
                r#type: builder.string(name),
                unit: builder.string(unit),
            };
            builder.profile.sample_type.push(value);
        }
        builder.profile.period_type = builder.profile.sample_type.last().copied();
        builder.profile.period = period;
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        builder.profile.duration_nanos = nanos(took);
        let now = settings::clock::system_time().duration_since(SystemTime::UNIX_EPOCH);
        builder.profile.time_nanos = nanos(now.unwrap_or_default().saturating_sub(took));
        builder
    }

    /// Adds a stack, the innermost place first.
    pub(crate) fn sample(
        &mut self,
        stack: impl IntoIterator<Item = Vec<Frame>>,
        value: Vec<i64>,
        thread: Option<&str>,
    ) {
        let location_id = stack
            .into_iter()
            .map(|place| self.location(place))
            .collect();
        let label = thread.map(|thread| Label {
            key: self.string("thread"),
            str: self.string(thread),
        });
        self.profile.sample.push(Sample {
            location_id,
            value,
            label: label.into_iter().collect(),
        });
    }

    /// The bytes of the profile.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.profile.encode_to_vec()
    }

    fn location(&mut self, place: Vec<Frame>) -> u64 {
        let lines: Vec<_> = place.into_iter().map(|frame| self.line(&frame)).collect();
        let next = next_id(self.locations.len());
        let profile = &mut self.profile;
        *self.locations.entry(lines).or_insert_with_key(|lines| {
            profile.location.push(Location {
                id: next,
                line: lines.clone(),
            });
            next
        })
    }

    fn line(&mut self, frame: &Frame) -> Line {
        let name = self.string(&frame.function);
        let filename = self.string(&frame.file);
        let next = next_id(self.functions.len());
        let profile = &mut self.profile;
        let function_id = *self.functions.entry((name, filename)).or_insert_with(|| {
            profile.function.push(Function {
                id: next,
                name,
                filename,
            });
            next
        });
        Line {
            function_id,
            line: i64::from(frame.line),
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = i64::try_from(self.profile.string_table.len()).unwrap_or(i64::MAX);
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }
}

/// Ids start at 1, because 0 means none.
fn next_id(so_far: usize) -> u64 {
    u64::try_from(so_far).unwrap_or(u64::MAX).saturating_add(1)
}
