//! A picture that four processes paint in one shared array, band by band, and their parent writes as PNG:
//! `cargo run --release --example picture -- mandelbrot.png`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::iter::repeat_with;
use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use procession::shared::{Array, Atomic};
use procession::{Failure, process};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// Rows.
const BAND: usize = 8;
const BANDS: usize = HEIGHT / BAND;

// ANCHOR: function
/// Paints one band after the other, until there are no more; says how many.
#[process]
fn paint(picture: Array<u8>, next: Atomic<usize>) -> Result<usize, Failure> {
    // Each of them is given to one process, so that no lock is needed.
    let bands = repeat_with(|| next.fetch_add(1)).take_while(|band| *band < BANDS);
    let mut count = 0;
    for band in bands {
        let first = band * BAND * WIDTH;
        let pixels: Vec<u8> = (first..first + BAND * WIDTH).flat_map(colour).collect();
        picture.write(first * 3, &pixels)?;
        count += 1;
    }
    Ok(count)
}
// ANCHOR_END: function

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let picture = Array::zeroed(WIDTH * HEIGHT * 3)?;
    let next = Atomic::new(0)?;
    let mut bands = 0;
    for painted in try_join_all((0..4).map(|_| paint(picture.clone(), next.clone()))).await? {
        bands += painted?;
    }
    let path = std::env::args_os().nth(1).map_or_else(default_path, PathBuf::from);
    write(&path, &picture.to_vec())?;
    println!("{bands} bands by 4 processes: {}", path.display());
    Ok(())
}
// ANCHOR_END: main

fn default_path() -> PathBuf {
    std::env::temp_dir().join("procession-mandelbrot.png")
}

/// Red, green and blue, by how soon a point of the plane leaves the circle of radius 2: black, if it does not.
fn colour(pixel: usize) -> [u8; 3] {
    let scale = 2.4 / HEIGHT as f64;
    let x = (pixel % WIDTH) as f64 - WIDTH as f64 / 2.0;
    let y = (pixel / WIDTH) as f64 - HEIGHT as f64 / 2.0;
    match steps(x * scale - 0.7, y * scale) {
        Some(steps) => [9, 5, 14].map(|factor| (factor * (steps + 3)) as u8),
        None => [0; 3],
    }
}

/// How many steps of `z = z² + c` it takes.
fn steps(re: f64, im: f64) -> Option<u32> {
    let (mut x, mut y) = (0.0, 0.0);
    (0..128).find(|_| {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        x * x + y * y > 4.0
    })
}

fn write(path: &Path, pixels: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut image = encoder.write_header()?;
    image.write_image_data(pixels)?;
    image.finish()?;
    Ok(())
}
