//! What the grammar takes and what it refuses.

use super::*;

fn target(text: &str) -> Target {
    Target::outside_proc(text.as_ref()).unwrap()
}

#[test]
fn a_bind_has_the_defaults_of_bind_mount() {
    let spec = parse("type=bind,src=/srv/a b,dst=/data").unwrap();
    assert_eq!(spec.target, target("/data"));
    assert_eq!(spec.attributes, Attributes::default());
    assert_eq!(
        spec.kind,
        Kind::Bind {
            source: Source::Path("/srv/a b".into()),
            recursive: true,
            propagation: Propagation::Slave,
            idmap: Vec::new(),
        }
    );
}

#[test]
fn dockers_names_mean_the_same() {
    let ours = "type=bind,src=/s,dst=/d,ro,propagation=private";
    for same in [
        "type=bind,source=/s,target=/d,readonly,bind-propagation=rprivate",
        "readonly=true,destination=/d,source=/s,type=bind,propagation=private,rw=false",
    ] {
        let (one, other) = (parse(ours).unwrap(), parse(same).unwrap());
        assert_eq!(
            (one.target, one.kind, one.attributes),
            (other.target, other.kind, other.attributes)
        );
    }
    let one = parse("type=tmpfs,dst=/t,size=1m,mode=700").unwrap();
    let other = parse("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
    assert_eq!(one.kind, other.kind);
}

#[test]
fn every_option_of_every_type() {
    let spec = parse(
        "type=volume,src=main,dst=/v,ro,nosuid,nodev,noexec,recursive=false,idmap=0:1000;1:5:2",
    )
    .unwrap();
    let names: Vec<_> = spec.attributes.names().collect();
    assert_eq!(names, ["ro", "nosuid", "nodev", "noexec"]);
    let line = |from, to, range| IdMap { from, to, range };
    assert_eq!(
        spec.kind,
        Kind::Bind {
            source: Source::Volume(Guid::new("main").unwrap()),
            recursive: false,
            propagation: Propagation::Slave,
            idmap: vec![line(0, 1000, 1), line(1, 5, 2)],
        }
    );
    let spec = parse("type=tmpfs,dst=/t,size=50%,nr_inodes=10k").unwrap();
    let option = |name, value: &str| (name, value.to_owned());
    assert_eq!(
        spec.kind,
        Kind::Tmpfs(vec![
            option("mode", "1777"),
            option("size", "50%"),
            option("nr_inodes", "10k")
        ])
    );
    assert_eq!(
        spec.attributes.names().collect::<Vec<_>>(),
        ["nosuid", "nodev"]
    );
    let spec = parse("type=overlay,lower=/a:/b,upper=/u,work=/w,dst=/o").unwrap();
    assert_eq!(
        spec.kind,
        Kind::Overlay {
            lower: vec!["/a".into(), "/b".into()],
            upper: Some(("/u".into(), "/w".into())),
        }
    );
    assert_eq!(parse("type=dev").unwrap().target, target("/dev"));
}

/// Entries that are refused, and a word that the refusal has to have.
#[rustfmt::skip]
const BAD: &[(&str, &str)] = &[
    ("", "unknown key"),
    ("type=bind,src=/a,dst=/b,", "unknown key"),
    ("src=/a,dst=/b", "type is missing"),
    ("type=bnd,src=/a,dst=/b", "did you mean bind?"),
    ("type=nfs,src=/a,dst=/b", "the types are bind"),
    ("type=bind,src=/a", "dst is missing"),
    ("type=bind,dst=/a", "src is missing"),
    ("type=bind,src=/a,dst=/b,readnly", "did you mean readonly?"),
    ("type=bind,src=/a,dst=/b,elephant=1", "the keys are type"),
    ("type=bind,src=/a,dst=/b,ro,rw", "both ro and rw"),
    ("type=bind,src=/a,dst=/b,ro=yes", "neither true nor false"),
    ("type=bind,src=/a,dst=/b,dst=/c", "dst is given twice"),
    ("type=bind,src=/a,dst=/b,target=/c", "dst is given twice"),
    ("type=bind,src=/a,dst", "dst has no value"),
    ("type=bind,src=,dst=/b", "src has no value"),
    ("type=bind,src=/a,dst=b", "it is not absolute"),
    ("type=bind,src=/a,dst=/", "root directory"),
    ("type=bind,src=/a,dst=/x/../y", "\"..\""),
    ("type=bind,src=/a,dst=/proc/sys", "/proc"),
    ("type=bind,src=a,dst=/b", "it is not absolute"),
    ("type=bind,src=/a,dst=/b,size=1m", "size belongs to type=tmpfs"),
    ("type=bind,src=/a,dst=/b,upper=/u", "upper belongs to type=overlay"),
    ("type=bind,src=/a,dst=/b,propagation=salve", "unknown propagation"),
    ("type=bind,src=/a,dst=/b,idmap=0", "is no id map"),
    ("type=bind,src=/a,dst=/b,idmap=0:1:2:3", "is no id map"),
    ("type=bind,src=/a,dst=/b,idmap=0:1;", "is no id map"),
    ("type=bind,src=/a,dst=/b,idmap=0:0:0", "the range is empty"),
    ("type=bind,src=/a,dst=/b,idmap=0:1:9;5:100", "share an id"),
    ("type=bind,src=/a,dst=/b,idmap=1:0:4294967295", "beyond the largest id"),
    ("type=volume,src=../a,dst=/b", "no name of a volume"),
    ("type=volume,src=/a,dst=/b", "no name of a volume"),
    ("type=tmpfs,src=/a,dst=/b", "type=tmpfs has no src"),
    ("type=tmpfs,dst=/b,idmap=0:1", "type=tmpfs has no idmap"),
    ("type=tmpfs,dst=/b,propagation=slave", "type=tmpfs has no propagation"),
    ("type=tmpfs,dst=/b,size=0", "is no size"),
    ("type=tmpfs,dst=/b,size=1kk", "is no size"),
    ("type=tmpfs,dst=/b,size=101%", "is no size"),
    ("type=tmpfs,dst=/b,size=-1", "is no size"),
    ("type=tmpfs,dst=/b,nr_inodes=5%", "is no size"),
    ("type=tmpfs,dst=/b,mode=888", "is no mode"),
    ("type=tmpfs,dst=/b,mode=01777", "is no mode"),
    ("type=overlay,dst=/b", "lower is missing"),
    ("type=overlay,lower=/a,dst=/b", "no upper"),
    ("type=overlay,lower=/a:b,dst=/b", "it is not absolute"),
    ("type=overlay,lower=/a,upper=/u,dst=/b", "only one of upper and work"),
    ("type=dev,dst=/dev,ro", "type=dev has no ro"),
];

#[test]
fn what_is_refused_names_the_entry_and_has_a_hint() {
    for (entry, word) in BAD {
        let error = parse(entry).expect_err(entry);
        let text = error.to_string();
        assert_eq!(error.exit_status(), 125);
        assert!(text.contains(word), "{word:?} in {text}");
        assert!(text.contains(entry), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
    let maps = "0:0;".repeat(400);
    assert!(
        parse(&format!(
            "type=bind,src=/a,dst=/b,idmap={}",
            maps.trim_end_matches(';')
        ))
        .is_err()
    );
}

#[test]
fn shares() {
    assert_eq!(parse_share("dev").unwrap(), [Share::Dev]);
    assert_eq!(
        parse_share("run,dev,sys,dev").unwrap(),
        [Share::Dev, Share::Sys, Share::Run]
    );
    for (bad, word) in [
        ("", "give one or more of dev, sys, run"),
        ("dev,", "give one or more of dev, sys, run"),
        ("/dev", "did you mean dev?"),
        ("proc", "give one or more of dev, sys, run"),
        ("dve", "did you mean dev?"),
    ] {
        let text = parse_share(bad).unwrap_err().to_string();
        assert!(text.contains(word), "{bad:?}: {text}");
    }
}
