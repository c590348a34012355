//! `image pull` and what is between the registry and us: redirects, plain HTTP, proxies, users, other pulls.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tests::front::{Act, Front};
use tests::registry::{Layer, digest};
use tests::{binary, lacking};

use crate::pull::{parts, pull, pull_layers, text, two_layers, with_registry};
use crate::pull_auth::htpasswd;
use crate::rootless::User;

#[test]
fn what_is_fetched_elsewhere_is_fetched_without_credentials() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let elsewhere = Front::start(registry.address, |_| Act::Pass);
    let (to, address) = (elsewhere.address, registry.address);
    let front = Front::start(address, move |asked| {
        if asked.path == "/v2/" {
            return Act::Say(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
                    .to_owned(),
            );
        }
        if asked.is_blob() {
            return Act::Say(format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{to}{}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n",
                asked.path
            ));
        }
        Act::Pass
    });
    let authfile = world.dir.join("auth.json");
    // name:word
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"bmFtZTp3b3Jk"}}}}}}"#,
        front.address
    );
    fs::write(&authfile, auth).expect("auth.json");
    let _ = pull(&world)
        .opt(front.name("team/web:1"))
        .opt(format!("--authfile={}", authfile.display()))
        .text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
    let with = |asked: &tests::front::Asked| asked.header("authorization").is_some();
    assert!(front.asked().iter().any(with));
    assert!(!elsewhere.asked().is_empty());
    assert!(!elsewhere.asked().iter().any(with));
}

/// An address of this machine that others could reach it by. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[test]
fn without_tls_only_from_this_machine_or_when_asked() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let Some(own) = own_address() else {
        return lacking("has no address but loopback");
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let open = registry.again_on(own);
    let done = pull(&world).opt(open.name("team/web:1")).done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains("does not talk TLS"),
        "{}",
        done.err_text()
    );
    assert!(
        done.err_text().contains("--plain-http"),
        "{}",
        done.err_text()
    );
    let _ = pull(&world)
        .opt(open.name("team/web:1"))
        .opt("--plain-http")
        .text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
}

#[test]
fn through_a_proxy_that_is_named_and_not_through_one_that_is_around() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let proxy = Front::start(registry.address, |_| Act::Pass);
    let url = format!("http://{}", proxy.address);
    let mut run = pull(&world).opt(registry.name("team/web:1"));
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        run = run.env(name, &url);
    }
    let _ = run.env("SSL_CERT_FILE", "/dev/null").text();
    assert_eq!(proxy.asked().len(), 0);
    // Who knows the name is the proxy, and nobody else is asked for it.
    let _ = pull(&world)
        .opt("registry.example/team/web:1")
        .opts(["--plain-http", "--id=far", &format!("--proxy={url}")])
        .text();
    assert_eq!(text(&world, "far", "etc/os"), "upper");
    let hosts = proxy.asked();
    assert!(
        hosts
            .iter()
            .all(|asked| asked.header("host") == Some("registry.example"))
    );
    assert!(!hosts.is_empty());
}

#[test]
fn an_ordinary_user_pulls_with_the_credentials_of_the_home_directory() {
    let Some(registry) = with_registry() else {
        return;
    };
    let (registry, world) = registry;
    let Some(user) = User::granted() else { return };
    let _ = registry.push("team/web", "1", &two_layers());
    let closed = registry.again("closed", &htpasswd(&world));
    let docker = user.home.join(".docker");
    fs::create_dir(&docker).expect("directory");
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"dXNlcjp3b3Jk"}}}}}}"#,
        closed.address
    );
    fs::write(docker.join("config.json"), auth).expect("config.json");
    let world = world.called_by(user.uid, user.wrap(user.uid));
    for path in [docker.clone(), docker.join("config.json")] {
        chown(&path, Some(user.uid), Some(user.uid)).expect("chown");
    }
    fs::set_permissions(
        docker.join("config.json"),
        fs::Permissions::from_mode(0o600),
    )
    .expect("mode");
    let other = "start-container-pull";
    fs::copy(binary().with_file_name(other), world.dir.join(other)).expect("copy");
    let _ = pull(&world).opt(closed.name("team/web:1")).text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
    assert_eq!(parts(&world), Vec::<PathBuf>::new());
}

#[test]
fn pulls_of_one_image_at_once() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let image = registry.push("team/web", "1", &[Layer::noise("data", 2 << 20, 2)]);
    let size = image.layers[0].len() as u64;
    let begun = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&begun);
    let layer = digest(&image.layers[0]);
    // The first who fetches it loses the connection in the middle, while the others wait.
    let front = Front::start(registry.address, move |asked| {
        let first = asked.path.ends_with(&layer) && counting.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            Act::Break(1 << 20)
        } else {
            Act::Pass
        }
    });
    let ids = ["one", "two", "three", "four"];
    let running: Vec<_> = ids
        .iter()
        .map(|id| {
            pull(&world)
                .opt(front.name("team/web:1"))
                .opt(format!("--id={id}"))
                .spawn()
        })
        .collect();
    for client in running {
        let _ = client.finish().expect_ok();
    }
    for id in ids {
        let data = world.base.join("images").join(id).join("data");
        assert_eq!(fs::metadata(data).expect("data").len(), 2 << 20);
    }
    assert!(begun.load(Ordering::SeqCst) >= 2);
    assert!(front.passed() >= size);
    assert_eq!(parts(&world), Vec::<PathBuf>::new());
}

#[test]
fn layers_that_are_there_are_not_fetched() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let common = Layer::noise("data", 500_000, 4);
    let _ = registry.push(
        "team/web",
        "1",
        &[common.clone(), Layer::of(&[("etc/os", b"one")])],
    );
    let own = Layer::of(&[("etc/os", b"two")]);
    let second = registry.push("team/web", "2", &[common, own]);
    let front = Front::start(registry.address, |_| Act::Pass);
    let _ = pull_layers(&world)
        .opt(front.name("team/web:1"))
        .opt("--id=one")
        .text();
    assert!(front.passed() > 500_000);
    let first = front.passed();
    let asks = |layer: &[u8]| {
        let layer = digest(layer);
        front
            .asked()
            .iter()
            .filter(|asked| asked.path.ends_with(&layer))
            .count()
    };
    let _ = pull_layers(&world)
        .opt(front.name("team/web:2"))
        .opt("--id=two")
        .text();
    assert_eq!((asks(&second.layers[0]), asks(&second.layers[1])), (1, 1));
    assert!(front.passed() < first + 20_000);
    // All of it is there now, under whatever name.
    let _ = pull_layers(&world)
        .opt(front.name("team/web:2"))
        .opt("--id=three")
        .text();
    assert_eq!((asks(&second.layers[0]), asks(&second.layers[1])), (1, 1));
    for (id, os) in [("one", "one"), ("two", "two"), ("three", "two")] {
        let root = world.create_of(id);
        assert_eq!(fs::read_to_string(root.join("etc/os")).expect("os"), os);
        assert_eq!(
            fs::metadata(root.join("data")).expect("data").len(),
            500_000
        );
        world.destroy(&root);
    }
    assert_eq!(parts(&world), Vec::<PathBuf>::new());
}
