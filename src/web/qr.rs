//! Links that carry a one-time code, and QR codes of them as SVG. Whoever the code is good for is `service`'s to say.

use super::request::Request;
use crate::net::problem::Problem;
use qrcode::QrCode;
use qrcode::render::svg;

/// A link to the hub's own page under the name by which it was reached. The code stands behind `#`: browsers do not send
/// that part, so it reaches no log.
pub(super) fn link(request: &Request, page: &str, code: &str) -> String {
    format!("{}/#/{page}/{code}", request.origin)
}

/// The QR code of `text`, with its quiet zone: an SVG element without scripts or outside references.
///
/// # Errors
/// 422 when the text is too long for a code (2331 bytes).
pub(super) fn svg(text: &str) -> Result<String, Problem> {
    let code = QrCode::new(text.as_bytes()).map_err(|_| Problem::invalid("the text is too long for a QR code"))?;
    Ok(code.render::<svg::Color<'_>>().min_dimensions(200, 200).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_becomes_a_picture_of_shapes_alone() {
        let drawn = svg("https://hearthkey.local:8443/#/reset/0123-4567-89AB-CDEF-GHJK").unwrap();
        assert!(drawn.contains("<svg") && drawn.contains("<path"));
        assert!(!drawn.contains("script") && !drawn.contains("0123"));
        assert_eq!(svg(&"x".repeat(3_000)).unwrap_err().status, 422);
    }
}
