//! The report in a browser, where there is one.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::digits::Lab;

/// Opens a page in frames of several widths, and says how much too wide its content is there, how many pictures were
/// not drawn, and how many links lead nowhere.
const PROBE: &str = "<!doctype html><pre id=found></pre><script>
const widths = [360, 800, 1400], found = [];
for (const width of widths) {
  const frame = document.createElement('iframe');
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = 'run/report.html';
  frame.onload = () => {
    const page = frame.contentDocument, pictures = [...page.images];
    const broken = pictures.filter(it => !it.complete || it.naturalWidth !== 96).length;
    const links = [...page.querySelectorAll('nav a')];
    const dead = links.filter(it => !page.querySelector(it.getAttribute('href'))).map(it => it.textContent);
    const root = page.documentElement;
    found.push(`${width}: ${root.scrollWidth - root.clientWidth} too wide, ${broken} broken of ${pictures.length > 9}, dead ${dead}`);
    document.getElementById('found').textContent = found.sort().join('; ');
  };
  document.body.append(frame);
}
</script>";

fn browser() -> Option<&'static str> {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success());
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there)
}

fn dom(browser: &str, page: &Path, profile: &Path) -> String {
    let run = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"])
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn the_page_fits_screens_of_all_widths() {
    let Some(browser) = browser() else {
        println!("skipped: there is no Chromium");
        return;
    };
    let lab = Lab::of("full", 4);
    lab.finetuned("run", &["train.epochs=2", "augment.flip=0.5"]);
    fs::write(lab.path("probe.html"), PROBE).unwrap();
    let found = dom(browser, &lab.path("probe.html"), &lab.path("profile"));
    let found = found.split("<pre id=\"found\">").nth(1).and_then(|it| it.split("</pre>").next());
    let fits = |width| format!("{width}: 0 too wide, 0 broken of true, dead ");
    let mut expected = [360, 800, 1400].map(fits);
    expected.sort();
    assert_eq!(found, Some(expected.join("; ").as_str()));
}
