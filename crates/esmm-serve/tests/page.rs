//! The page at `/` in Chromium, and through an HTML validator. `npm ci` in `tests/report` gets the tools; with
//! `ESMM_REPORT_CHECK=1` they must be there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::{Running, Workspace};
use esmm_serve::Limits;

#[test]
fn a_browser_ranks_on_the_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/report");
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let there = folder.join("node_modules").exists() && Path::new(&browser).exists();
    if !there {
        assert!(
            std::env::var_os("ESMM_REPORT_CHECK").is_none(),
            "ESMM_REPORT_CHECK is set: {browser} and the packages of tests/report must be there"
        );
        // Not captured, as `eprintln!` would be.
        let _ = writeln!(
            std::io::stderr(),
            "skipped the check in a browser: it needs {browser} and `npm ci` in tests/report"
        );
        return;
    }
    let workspace = Workspace::new(3);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page.html");
    for token in [None, Some("secret")] {
        let service = Running::start(&workspace, Limits::default(), token.map(str::to_owned));
        let checked = Command::new("node")
            .arg(folder.join("check_service.mjs"))
            .arg(format!("http://{}/", service.address))
            .arg(&page)
            .args(token)
            .env("CHROMIUM", &browser)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{token:?}: {said}{}", String::from_utf8_lossy(&checked.stderr));
    }
}
