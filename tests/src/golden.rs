//! Compares text with a file in `tests/golden/`; `UPDATE_GOLDEN=1` writes the file instead.

use std::fs;
use std::path::Path;

/// Expects `text` to be what the file `name` has.
///
/// # Panics
/// With both texts when they differ.
pub fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(&path, text).expect("write");
        return;
    }
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; set UPDATE_GOLDEN=1", path.display()));
    assert!(
        golden == text,
        "{} differs; is this wanted? set UPDATE_GOLDEN=1\n--- file\n{golden}--- now\n{text}",
        path.display()
    );
}
