//! Pictures of a QR payload: PNG for terminals and receipts, SVG for pages.
//!
//! Error correction M, as Thai QR asks for, and the quiet zone of four modules without which cameras do not find the code.

use qrcode::{Color, EcLevel, QrCode, render::svg};

/// Modules of white around the code. Source: ISO/IEC 18004.
const QUIET_ZONE: usize = 4;
/// The widest picture, in pixels.
const MAX_SIDE: usize = 2048;

/// A picture that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QrImageError {
    /// The payload does not fit into a code.
    #[error("the payload is too long for a QR code")]
    TooLong,
    /// The picture would be wider than 2,048 pixels, or a module would have none.
    #[error("a module must have at least one pixel and the picture at most 2048")]
    Size,
    /// The PNG container could not be written.
    #[error("the picture could not be written: {0}")]
    Png(#[from] png::EncodingError),
}

/// A one-bit greyscale PNG with `pixels` for the side of a module.
///
/// # Errors
/// `TooLong`, `Size`, `Png`.
pub fn png(payload: &str, pixels: usize) -> Result<Vec<u8>, QrImageError> {
    let code = matrix(payload)?;
    let side = code.width().saturating_add(2 * QUIET_ZONE).saturating_mul(pixels);
    let width = u32::try_from(side).ok().filter(|_| (1..=MAX_SIDE).contains(&side)).ok_or(QrImageError::Size)?;
    let mut rows = vec![0u8; side.div_ceil(8) * side];
    for y in 0..side {
        for x in 0..side {
            if is_white(&code, x / pixels, y / pixels) {
                rows[y * side.div_ceil(8) + x / 8] |= 0x80 >> (x % 8);
            }
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, width);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rows)?;
    writer.finish()?;
    Ok(out)
}

/// An SVG document that scales to any size.
///
/// # Errors
/// `TooLong`.
pub fn svg(payload: &str) -> Result<String, QrImageError> {
    Ok(matrix(payload)?.render::<svg::Color<'_>>().quiet_zone(true).build())
}

fn matrix(payload: &str) -> Result<QrCode, QrImageError> {
    QrCode::with_error_correction_level(payload, EcLevel::M).map_err(|_| QrImageError::TooLong)
}

/// Of the module at that place, counted with the quiet zone.
fn is_white(code: &QrCode, x: usize, y: usize) -> bool {
    let inside = |at: usize| at.checked_sub(QUIET_ZONE).filter(|at| *at < code.width());
    match (inside(x), inside(y)) {
        (Some(x), Some(y)) => code[(x, y)] == Color::Light,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = "00020101021230670016A00000067701011201151234567890123450210REFERENCE10310REFERENCE252047011530376454041.005802TH6007BANGKOK62070703SCB6304CE18";

    fn decoded(picture: &[u8]) -> String {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(picture));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let (width, height) = (info.width as usize, info.height as usize);
        read(width, height, |x, y| pixels[y * info.line_size + x])
    }

    fn read(width: usize, height: usize, pixel: impl FnMut(usize, usize) -> u8) -> String {
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, pixel);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code in the picture");
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_picture_reads_back_as_its_payload_at_any_size() {
        for pixels in [3, 4, 10] {
            assert_eq!(decoded(&png(PAYLOAD, pixels).unwrap()), PAYLOAD, "{pixels} pixels a module");
        }
        let longest = "7".repeat(512);
        assert_eq!(decoded(&png(&longest, 5).unwrap()), longest);
    }

    #[test]
    fn sizes_and_payloads_that_make_no_picture_are_refused() {
        assert!(matches!(png(PAYLOAD, 0), Err(QrImageError::Size)));
        assert!(matches!(png(PAYLOAD, usize::MAX), Err(QrImageError::Size)));
        assert!(matches!(png(&"x".repeat(5_000), 4), Err(QrImageError::TooLong)));
    }

    /// Draws the path of the document: `M x y h w v h …` rectangles in units of its own.
    #[test]
    fn the_svg_draws_the_same_modules() {
        let document = svg(PAYLOAD).unwrap();
        let numbers = |text: &str| text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect::<Vec<usize>>();
        let view = document.split("viewBox=\"").nth(1).unwrap().split('"').next().unwrap();
        let side = numbers(view)[2];
        let path = document.split(" d=\"").last().unwrap().split('"').next().unwrap();
        let mut dark = vec![false; side * side];
        for piece in path.split('M').filter(|piece| !piece.is_empty()) {
            let rectangle = numbers(piece);
            let (left, top, width, height) = (rectangle[0], rectangle[1], rectangle[2], rectangle[3]);
            for row in top..top + height {
                dark[row * side + left..row * side + left + width].fill(true);
            }
        }
        assert_eq!(read(side, side, |x, y| if dark[y * side + x] { 0 } else { 255 }), PAYLOAD);
    }
}
