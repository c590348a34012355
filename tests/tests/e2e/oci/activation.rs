//! Sockets that systemd has opened for the container (sd_listen_fds(3)).

use std::fs;

use serde_json::json;
use tests::{Bundle, Done, World};

/// What a program of systemd's asks for, and what is open.
const TELL: &str = "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; cat <&4; echo /proc/self/fd/*";

/// Three descriptors from 3 on, of which there are `LISTEN_FDS` ones for whom `LISTEN_PID` names.
fn activated(bundle: &Bundle<'_>, variables: &str, words: &[&str]) -> Done {
    let shell = format!("{variables} exec \"$0\" \"$@\" 3<three 4<four 5<five");
    for name in ["three", "four", "five"] {
        fs::write(bundle.dir.join(name), format!("{name}\n")).unwrap();
    }
    bundle.call(words).wrap(["sh", "-c", &shell]).done()
}

fn fds(last: u32) -> String {
    // The one of the directory itself comes behind them.
    let all: Vec<_> = (0..=last + 1)
        .map(|fd| format!("/proc/self/fd/{fd}"))
        .collect();
    all.join(" ")
}

#[test]
fn sockets_of_an_activation_are_passed_on() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, TELL, |_| {});
    let ours = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:admin";
    let done = activated(&bundle, ours, &["run", "one"]);
    assert_eq!(
        done.out_text(),
        format!("1 1 2 web:admin\nfour\n{}", fds(4))
    );
    // Those of --preserve-fds come behind them.
    let done = activated(&bundle, ours, &["run", "--preserve-fds=1", "one"]);
    assert_eq!(
        done.out_text(),
        format!("1 1 2 web:admin\nfour\n{}", fds(5))
    );
    let done = activated(&bundle, "LISTEN_FDS=2", &["run", "one"]);
    assert_eq!(done.out_text(), format!("1 1 2\nfour\n{}", fds(4)));
    // Without a PID namespace it has another number.
    let mut config = bundle.config();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    config["process"]["args"] = json!(["sh", "-c", "test $LISTEN_PID = $$ && test $$ != 1"]);
    bundle.write(&config);
    activated(&bundle, ours, &["run", "one"]).expect_code(0);
}

#[test]
fn sockets_for_somebody_else_are_not_passed_on() {
    let Some(world) = World::new() else { return };
    let script = "echo ${LISTEN_FDS-none} ${LISTEN_PID-none} /proc/self/fd/*";
    let bundle = Bundle::new(&world, script, |_| {});
    for variables in ["LISTEN_FDS=2 LISTEN_PID=1", "LISTEN_FDS=0 LISTEN_PID=$$"] {
        let done = activated(&bundle, variables, &["run", "one"]);
        assert_eq!(
            done.out_text(),
            format!("none none {}", fds(2)),
            "{variables}"
        );
    }
    let done = activated(&bundle, "LISTEN_FDS=-1", &["run", "one"]);
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("LISTEN_FDS"),
        "{}",
        done.err_text()
    );
}

#[test]
fn sockets_that_an_engine_speaks_of_are_as_it_says() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, TELL, |config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.extend(["LISTEN_FDS=7", "LISTEN_PID=9", "LISTEN_FDNAMES=x"].map(Into::into));
    });
    let ours = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:admin";
    let done = activated(&bundle, ours, &["run", "one"]);
    assert_eq!(done.out_text(), format!("1 9 7 x\nfour\n{}", fds(4)));
}

#[test]
fn a_command_that_joins_is_activated_by_its_own_number() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let ours = "LISTEN_FDS=2 LISTEN_PID=$$";
    let done = activated(&bundle, ours, &["exec", "one", "sh", "-c", TELL]);
    let text = done.out_text();
    let mut words = text.split_whitespace();
    let (pid, told) = (words.next().unwrap(), words.next().unwrap());
    assert_eq!(pid, told, "{text}");
    assert_ne!(pid, "1");
    assert!(text.ends_with(&format!("2\nfour\n{}", fds(4))), "{text}");
}
