//! One GET request, and what its answer means for a download that may be half done.

use std::io::Read;
use std::time::Duration;
use ureq::http::{HeaderMap, StatusCode, header};

/// What the server has to say.
pub(super) enum Answer {
    /// 200: the file from its first byte.
    Whole(Body),
    /// 206: the file from the byte asked for.
    Rest(Body),
    /// 416: there is nothing after the part, which ends where the file does.
    NothingLeft,
    /// The range does not fit the file, so the part belongs to another version.
    BadRange(String),
    /// The file is not to be had here.
    Refused(String),
    /// The connection or the server failed: another attempt may go better.
    Broken(String),
}

/// The bytes of an answer.
pub(super) struct Body {
    /// The bytes themselves.
    pub(super) reader: Box<dyn Read>,
    /// Size of the whole file, if the server says.
    pub(super) total: Option<u64>,
    /// What names this version of the file in a later `If-Range`.
    pub(super) validator: Option<String>,
}

/// Asks for `url` from byte `offset` on.
pub(super) fn get(url: &str, offset: u64, validator: Option<&str>) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        // A transfer encoding of its own would make sizes and ranges meaningless.
        .accept_encoding("identity")
        .user_agent(concat!("fokker-xtask/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.get(url);
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
        if let Some(validator) = validator {
            request = request.header(header::IF_RANGE, validator);
        }
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(e) => return Answer::Broken(e.to_string()),
    };
    let (parts, body) = response.into_parts();
    let text = |name: header::HeaderName| header_text(&parts.headers, &name);
    match parts.status {
        StatusCode::OK if text(header::CONTENT_TYPE).is_some_and(|t| t.starts_with("text/html")) => {
            Answer::Refused("answered with a web page instead of the file".into())
        }
        StatusCode::OK => Answer::Whole(Body {
            total: text(header::CONTENT_LENGTH).and_then(|n| n.trim().parse().ok()),
            validator: validator_of(&parts.headers),
            reader: Box::new(body.into_reader()),
        }),
        StatusCode::PARTIAL_CONTENT => match content_range(text(header::CONTENT_RANGE).unwrap_or_default()) {
            Some((Some(start), total)) if start == offset => {
                Answer::Rest(Body { total, validator: None, reader: Box::new(body.into_reader()) })
            }
            _ => Answer::BadRange(format!(
                "asked for the bytes from {offset} on, it sent '{}'",
                text(header::CONTENT_RANGE).unwrap_or("no range")
            )),
        },
        StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => match content_range(text(header::CONTENT_RANGE).unwrap_or_default()) {
            Some((_, Some(total))) if total == offset => Answer::NothingLeft,
            _ => Answer::BadRange(format!("has no bytes after {offset}")),
        },
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Answer::Broken(format!("HTTP {status}")),
        status => Answer::Refused(format!("HTTP {status}")),
    }
}

fn header_text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The strong ETag, or else the date of the last change (RFC 9110, section 13.1.5: weak tags do not serve).
fn validator_of(headers: &HeaderMap) -> Option<String> {
    let tag = header_text(headers, &header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| header_text(headers, &header::LAST_MODIFIED)).map(str::to_owned)
}

/// First byte and size of the file out of `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`.
fn content_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        range => Some(range.split_once('-')?.0.parse().ok()?),
    };
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((Some(5), Some(10)))),
            ("bytes 5-9/*", Some((Some(5), None))),
            ("bytes */10", Some((None, Some(10)))),
            ("bytes 5/10", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }

    #[test]
    fn a_weak_tag_gives_way_to_the_date() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LAST_MODIFIED, "Tue, 01 Jan 2019 00:00:00 GMT".parse().unwrap());
        headers.insert(header::ETAG, "W/\"a\"".parse().unwrap());
        assert_eq!(validator_of(&headers).unwrap(), "Tue, 01 Jan 2019 00:00:00 GMT");
        headers.insert(header::ETAG, "\"a\"".parse().unwrap());
        assert_eq!(validator_of(&headers).unwrap(), "\"a\"");
    }
}
