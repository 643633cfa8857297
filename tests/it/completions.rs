//! `tl completions`: a shell completes with the script, and every command has a man page.

use std::fs;
use std::process::Command;

use crate::program::{Tl, clean, tl};

/// What bash offers for the last of `words`, with the script of `tl completions bash`.
fn offered(words: &[&str]) -> Vec<String> {
    let script = tl(&["completions", "bash"]).expect(0).stdout;
    let last = words.len() - 1;
    let ask = format!(
        "{script}\nCOMP_WORDS=({}); COMP_CWORD={last}; _tl tl '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words[last],
        words[last - 1],
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered(&["tl", "fi"]), ["finetune"]);
    assert_eq!(offered(&["tl", "predict", "--top"]), ["--top-k"]);
    assert_eq!(offered(&["tl", "models", "--sort", "p"]), ["params"]);
}

#[test]
fn every_shell_has_a_script_and_it_can_be_written_where_the_shell_looks() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("share/completions").display().to_string();
    for (shell, file, head) in
        [("bash", "tl", "_tl() {"), ("zsh", "_tl", "#compdef tl"), ("fish", "tl.fish", "# Print an optspec")]
    {
        let printed = tl(&["completions", shell]).expect(0);
        assert!(printed.stdout.starts_with(head) && printed.stderr.is_empty(), "{}", printed.stdout);
        let told = tl(&["completions", shell, "--out", &out]).expect(0).told();
        assert_eq!(told, format!("1 file in {}", clean(&out)));
        assert_eq!(fs::read_to_string(format!("{out}/{file}")).unwrap(), printed.stdout);
    }
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    tl(&["completions", "man", "--out", &out, "--quiet"]).expect(0);
    let help = tl(&["--help"]).expect(0).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.map_while(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut expected: Vec<String> =
        commands.map(|name| format!("tl-{name}.1")).chain(["tl.1".into()]).collect();
    expected.sort();
    assert!(expected.len() > 7, "{help}");
    let names = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, expected);
    let page = fs::read_to_string(format!("{out}/tl-predict.1")).unwrap();
    assert!(page.contains(".TH tl-predict 1") && page.contains("\\-\\-top\\-k"), "{page}");
}

#[test]
fn man_pages_are_files_and_need_a_folder() {
    insta::assert_snapshot!(tl(&["completions", "man"]).expect(2).told(), @"
    error: the following required arguments were not provided:
      --out <DIR>

    Usage: tl completions --out <DIR> <WHAT>

    For more information, try '--help'.
    ");
    let run = Tl::new(["completions", "tcsh"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: invalid value 'tcsh' for '<WHAT>'
      [possible values: bash, zsh, fish, man]

      tip: a similar value exists: 'zsh'

    For more information, try '--help'.
    ");
}
