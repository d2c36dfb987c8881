use std::collections::HashMap;

use procession::process;

struct Image;

#[derive(serde::Serialize)]
struct Half;

#[process]
async fn argument(image: Image) {
    drop(image);
}

#[process]
async fn result() -> Image {
    Image
}

#[process]
fn nested(images: Vec<Image>) -> Option<std::boxed::Box<Half>> {
    drop(images);
    None
}

#[process]
async fn both(image: Image, half: HashMap<u8, Half>) -> Result<u8, std::io::Error> {
    drop((image, half));
    Ok(1)
}

fn main() {
    drop((argument(Image), result(), nested(Vec::new()), both(Image, HashMap::new())));
}
