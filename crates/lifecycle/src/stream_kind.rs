//! Kinds of streams.

/// Kind of a stream: label value of `http_streams_open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Server-sent events.
    Sse,
    /// WebSockets.
    WebSocket,
}

impl StreamKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Sse, Self::WebSocket];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }
}
