//! `image pull`: who the registry is, and whom it is shown.

use std::fs;
use std::path::{Path, PathBuf};

use tests::front::{Act, Front};
use tests::registry::Registry;
use tests::{Run, World, tool};

use crate::pull::{parts, pull, text, two_layers, with_registry};

/// Lines of a registry's configuration that want the user `user` with the password `word`.
pub(crate) fn htpasswd(world: &World) -> String {
    let file = world.dir.join("htpasswd");
    let line = "user:$2y$05$gMC1aq67LhKDuy4NCcmRpeNWw3Qm/CSalnECqo0QEjHYkTIpl3Tja\n";
    fs::write(&file, line).expect("htpasswd");
    format!(
        "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
        file.display()
    )
}

/// An auth file with this user for the registry.
fn authfile(world: &World, registry: &str, name: &str, entry: &str) -> String {
    let file = world.dir.join(name);
    fs::write(&file, format!(r#"{{"auths":{{"{registry}":{entry}}}}}"#)).expect("auth file");
    format!("--authfile={}", file.display())
}

#[test]
fn name_and_password() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let closed = registry.again("closed", &htpasswd(&world));
    let host = closed.address.to_string();
    let empty = authfile(&world, "other.example", "empty.json", "{}");
    let wrong = authfile(
        &world,
        &host,
        "wrong.json",
        r#"{"auth":"dXNlcjp3cm9uZw=="}"#,
    );
    let token = authfile(&world, &host, "token.json", r#"{"identitytoken":"x"}"#);
    for (option, parts) in [
        (&empty, ["denies it without credentials", "podman login"]),
        (&wrong, ["denies it with the credentials of", "wrong.json"]),
        (
            &token,
            ["identity token, which is not supported", "token.json"],
        ),
    ] {
        let done = pull(&world)
            .opt(closed.name("team/web:1"))
            .opt(option)
            .done();
        done.expect_refused(&[125]);
        for part in parts {
            assert!(
                done.err_text().contains(part),
                "{part}: {}",
                done.err_text()
            );
        }
        assert!(!done.err_text().contains("wrong\""), "{}", done.err_text());
    }
    assert!(!world.base.join("images/web").exists());
    let right = authfile(&world, &host, "right.json", r#"{"auth":"dXNlcjp3b3Jk"}"#);
    let _ = pull(&world)
        .opt(closed.name("team/web:1"))
        .opt(&right)
        .text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
}

#[test]
fn tokens() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let front = Front::start(registry.address, |asked| {
        let host = asked.header("host").unwrap_or_default();
        let auth = asked.header("authorization");
        let (status, header, body) = match (asked.path.split('?').next(), auth) {
            (_, Some("Bearer granted")) => return Act::Pass,
            (Some("/token"), Some("Basic dXNlcjp3b3Jk"))
                if asked.path.contains("service=test")
                    && asked.path.contains("scope=repository%3Ateam%2Fweb%3Apull") =>
            {
                (
                    "200 OK",
                    String::new(),
                    r#"{"token":"granted","expires_in":300}"#,
                )
            }
            (Some("/token"), _) => ("401 Unauthorized", String::new(), "{}"),
            _ => {
                let realm = format!(
                    "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"test\"\r\n"
                );
                ("401 Unauthorized", realm, "{}")
            }
        };
        Act::Say(format!(
            "HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    });
    let host = front.address.to_string();
    let wrong = authfile(
        &world,
        &host,
        "wrong.json",
        r#"{"auth":"dXNlcjp3cm9uZw=="}"#,
    );
    let done = pull(&world).opt(front.name("team/web:1")).opt(wrong).done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains("denies it with the credentials"),
        "{}",
        done.err_text()
    );
    let right = authfile(&world, &host, "right.json", r#"{"auth":"dXNlcjp3b3Jk"}"#);
    let _ = pull(&world).opt(front.name("team/web:1")).opt(right).text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
}

/// Makes an authority and a certificate of it for 127.0.0.1; gives the authority's file.
fn certificates(dir: &Path) -> PathBuf {
    fs::create_dir(dir).expect("directory");
    let openssl = |line: &str| {
        let _ = Run::new(tool("openssl"))
            .cwd(dir)
            .cmd(line.split(' '))
            .text();
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=test-authority -days 2"
    ));
    openssl(&format!(
        "req {key} -keyout key.pem -out cert.csr -subj /CN=test-registry"
    ));
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("names");
    openssl(
        "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
    );
    dir.join("ca.pem")
}

#[test]
fn a_certificate_of_an_authority_of_ones_own() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let tls = world.dir.join("tls");
    let authority = certificates(&tls);
    let lines = format!(
        "  tls: {{certificate: {0}/cert.pem, key: {0}/key.pem}}\n",
        tls.display()
    );
    let secret: Registry = registry.again("secret", &lines);
    let done = pull(&world).opt(secret.name("team/web:1")).done();
    done.expect_refused(&[125]);
    for part in ["cannot be trusted", "UnknownIssuer", "--ca-cert"] {
        assert!(
            done.err_text().contains(part),
            "{part}: {}",
            done.err_text()
        );
    }
    let option = format!("--ca-cert={}", authority.display());
    // It is the registry's certificate, but not under this name.
    let other = format!("localhost:{}/team/web:1", secret.address.port());
    let done = pull(&world).opt(other).opt(&option).done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains("cannot be trusted"),
        "{}",
        done.err_text()
    );
    assert_eq!(parts(&world), Vec::<PathBuf>::new());
    let _ = pull(&world)
        .opt(secret.name("team/web:1"))
        .opt(&option)
        .text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
}
