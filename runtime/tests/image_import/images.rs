//! Image archives: the forms they come in, choosing one of several, and the files beside the root filesystem.

use std::fs;

use runtime::image::{Format, ImportRequest, Platform, import, import_all};
use serde_json::json;
use tar::EntryType;

use crate::pack::{
    Files, OCI_INDEX, OCI_MANIFEST, Tar, config, dir, docker, file, gzip, hardlink, image, item,
    layout, oci, sha256, symlink, zstd,
};
use crate::place::{Place, list};

fn layers() -> Vec<Vec<u8>> {
    vec![
        Tar::of([file("etc/a", "1"), file("etc/b", "2")]),
        Tar::of([file("etc/.wh.a", ""), file("c", "3")]),
    ]
}

fn contents(place: &Place) -> Vec<String> {
    let lines = list(&place.images().join("img"));
    lines
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

const MERGED: [&str; 4] = ["/", "/c", "/etc", "/etc/b"];
const META: &str = "{\"user\":\"web\",\"workdir\":\"/srv\",\"entrypoint\":[\"/init\"],\"cmd\":null,\"labels\":null,\
     \"stop_signal\":null,\"volumes\":null,\"ports\":null,\"healthcheck\":null}\n";

#[test]
fn a_layout_as_directory_and_as_tar_of_every_compression() {
    let source = oci(&layers()).into_tar();
    // As `tar -C layout -c .` has it.
    let dotted = Tar::of(
        [dir("./"), dir("./blobs")].into_iter().chain(
            oci(&layers())
                .0
                .iter()
                .map(|(k, v)| file(format!("./{k}"), v)),
        ),
    );
    let mut digests = Vec::new();
    for data in [source.clone(), gzip(&source), zstd(&source), dotted] {
        let place = Place::new();
        let imported = place.import(&data).unwrap();
        assert_eq!(
            (imported.format, imported.layers, imported.members),
            (Format::Oci, 2, 3)
        );
        assert_eq!(contents(&place), MERGED);
        assert_eq!(
            fs::read_to_string(place.images().join("img.env")).unwrap(),
            "PATH=/bin\nA=b c\n"
        );
        assert_eq!(
            fs::read_to_string(place.images().join("img.json")).unwrap(),
            META
        );
        assert_eq!(place.names(), ["img", "img.env", "img.json"]);
        digests.push(imported.digest.unwrap());
    }
    let place = Place::new();
    let directory = place.top.join("layout");
    oci(&layers()).into_directory(&directory);
    let imported = import(&place.request(&directory)).unwrap();
    assert_eq!(contents(&place), MERGED);
    digests.push(imported.digest.unwrap());
    assert!(
        digests[0].starts_with("sha256:") && digests.iter().all(|digest| *digest == digests[0])
    );
}

#[test]
fn layers_of_every_compression_whatever_their_type_says() {
    for pack in [<[u8]>::to_vec, gzip, zstd, |layer: &[u8]| {
        [zstd(&layer[..700]), zstd(&layer[700..])].concat()
    }] {
        let place = Place::new();
        let mut files = Files::default();
        let manifest = image(&mut files, &layers(), &config(&layers()), pack);
        layout(&mut files, &[manifest]);
        place.import(&files.into_tar()).unwrap();
        assert_eq!(contents(&place), MERGED);
    }
}

#[test]
fn an_image_without_layers_is_an_empty_directory() {
    let place = Place::new();
    place.import(&oci(&[]).into_tar()).unwrap();
    assert_eq!(contents(&place), ["/"]);
}

/// A layout with an index of images for several machines, one of them this one, and what a build tool adds.
fn for_several_machines() -> Vec<u8> {
    let mut files = Files::default();
    let here = Platform::host().architecture;
    let mut manifests = Vec::new();
    for architecture in ["pdp11", &here, "vax"] {
        let layer = vec![Tar::of([file(architecture, "x")])];
        let mut config = config(&layer);
        config["architecture"] = json!(architecture);
        let mut descriptor = image(&mut files, &layer, &config, gzip);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(descriptor);
    }
    let mut provenance = files.blob(OCI_MANIFEST, b"{\"schemaVersion\":2}");
    provenance["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    provenance["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    manifests.push(provenance);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let mut nested = files.blob(OCI_INDEX, index.to_string().as_bytes());
    nested["annotations"] = json!({"org.opencontainers.image.ref.name": "multi"});
    layout(&mut files, &[nested]);
    files.into_tar()
}

#[test]
fn a_nested_index_gives_the_image_for_this_machine_or_the_one_asked_for() {
    let data = for_several_machines();
    let place = Place::new();
    place.import(&data).unwrap();
    assert_eq!(
        contents(&place),
        [
            "/".to_owned(),
            format!("/{}", Platform::host().architecture)
        ]
    );

    let place = Place::new();
    let request = place.request(place.source(&data));
    let vax = ImportRequest {
        platform: "linux/vax".parse().unwrap(),
        reference: Some("multi".into()),
        ..request
    };
    import(&vax).unwrap();
    assert_eq!(contents(&place), ["/", "/vax"]);

    let place = Place::new();
    let request = place.request(place.source(&data));
    let nowhere = ImportRequest {
        platform: "linux/z80".parse().unwrap(),
        ..request
    };
    let error = import(&nowhere).unwrap_err().to_string();
    assert!(
        error.contains("none is for linux/z80") && error.contains("linux/vax"),
        "{error}"
    );
}

fn two_images() -> Vec<u8> {
    let mut files = Files::default();
    let mut manifests = Vec::new();
    for name in ["one", "two"] {
        let layer = vec![Tar::of([file(name, "x")])];
        let mut descriptor = image(&mut files, &layer, &config(&layer), <[u8]>::to_vec);
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        manifests.push(descriptor.clone());
        descriptor["annotations"] =
            json!({"io.containerd.image.name": format!("docker.io/x/{name}:latest")});
        manifests.push(descriptor);
    }
    layout(&mut files, &manifests);
    files.into_tar()
}

#[test]
fn several_images_in_a_layout_need_a_name() {
    let data = two_images();
    let place = Place::new();
    let error = place.import(&data).unwrap_err().to_string();
    assert!(
        error.contains("several") && error.contains("one") && error.contains("two"),
        "{error}"
    );
    for reference in ["two", "docker.io/x/two:latest"] {
        let place = Place::new();
        let request = place.request(place.source(&data));
        import(&ImportRequest {
            reference: Some(reference.into()),
            ..request
        })
        .unwrap();
        assert_eq!(contents(&place), ["/", "/two"]);
    }
    let request = place.request(place.source(&data));
    let error = import(&ImportRequest {
        reference: Some("three".into()),
        ..request
    })
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("no image of that name") && error.contains("one"),
        "{error}"
    );
    assert!(!place.base().exists());
}

#[test]
fn a_docker_archive_plain_and_compressed() {
    let data = docker(&layers(), &["web:1", "web:latest"]).into_tar();
    for data in [data.clone(), gzip(&data), zstd(&data)] {
        let place = Place::new();
        let imported = place.import(&data).unwrap();
        assert_eq!(
            (imported.format, imported.layers, imported.digest),
            (Format::Docker, 2, None)
        );
        assert_eq!(contents(&place), MERGED);
        assert_eq!(
            fs::read_to_string(place.images().join("img.json")).unwrap(),
            META
        );
        assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    }
}

#[test]
fn a_docker_archive_whose_layers_are_links_and_compressed() {
    let layers = layers();
    let config = config(&layers).to_string();
    let manifest =
        json!([{"Config": "c", "RepoTags": null, "Layers": ["x/layer.tar", "y/layer.tar"]}]);
    let place = Place::new();
    place
        .import(&Tar::of([
            file("first/layer.tar", &layers[0]),
            dir("x"),
            symlink("x/layer.tar", "../first/layer.tar"),
            file("second.tar.gz", gzip(&layers[1])),
            hardlink("y/layer.tar", "second.tar.gz"),
            file("c", config),
            file("manifest.json", manifest.to_string()),
        ]))
        .unwrap();
    assert_eq!(contents(&place), MERGED);
}

/// A docker-archive of two images with a name and one without.
fn docker_images() -> Vec<u8> {
    let mut files = Files::default();
    let mut manifest = Vec::new();
    for name in ["one", "two", "three"] {
        let layer = vec![Tar::of([file(name, "x")])];
        let tags = match name {
            "three" => vec![],
            _ => vec![
                format!("{name}:1"),
                format!("docker.io/library/{name}:latest"),
            ],
        };
        let config = config(&layer).to_string();
        let config_name = format!("blobs/sha256/{}", sha256(config.as_bytes()));
        files.put(format!("{name}.tar"), layer[0].clone());
        manifest.push(
            json!({"Config": config_name, "RepoTags": tags, "Layers": [format!("{name}.tar")]}),
        );
        files.put(config_name, config);
    }
    files.put("manifest.json", json!(manifest).to_string());
    files.into_tar()
}

#[test]
fn several_images_in_a_docker_archive_need_a_name() {
    let data = docker_images();
    let place = Place::new();
    let error = place.import(&data).unwrap_err().to_string();
    assert!(
        error.contains("several") && error.contains("one:1, two:1"),
        "{error}"
    );
    let request = place.request(place.source(&data));
    import(&ImportRequest {
        reference: Some("two:1".into()),
        ..request
    })
    .unwrap();
    assert_eq!(contents(&place), ["/", "/two"]);
}

#[test]
fn an_image_without_a_name_is_chosen_by_its_digest() {
    let place = Place::new();
    let request = place.request(place.source(&docker_images()));
    let digest = {
        let error = import(&request).unwrap_err().to_string();
        let (_, digest) = error.split_once("sha256:").unwrap();
        format!("sha256:{}", &digest[..64])
    };
    import(&ImportRequest {
        reference: Some(digest),
        ..request
    })
    .unwrap();
    assert_eq!(contents(&place), ["/", "/three"]);
}

#[test]
fn all_images_of_an_archive_under_ids_of_their_own() {
    for flat in [true, false] {
        for data in [docker_images(), gzip(&docker_images())] {
            let place = Place::new();
            let request = ImportRequest {
                flat,
                ..place.request(place.source(&data))
            };
            let imported = import_all(&request).unwrap();
            let mut ids: Vec<_> = imported
                .iter()
                .map(|(id, _)| id.as_str().to_owned())
                .collect();
            ids.retain(|id| !id.starts_with("sha256-"));
            assert_eq!(ids, ["one-1", "one-latest", "two-1", "two-latest"]);
            assert_eq!(imported.len(), 5);
            for (id, imported) in imported {
                assert!(imported.root.exists(), "{}", id.as_str());
                assert!(place.images().join(format!("{}.env", id.as_str())).exists());
            }
            // One that is taken is found out before anything is done.
            let before = place.names();
            let error = import_all(&request).unwrap_err().to_string();
            assert!(error.contains("exists"), "{error}");
            assert_eq!(place.names(), before);
            let again = ImportRequest {
                replace: true,
                ..request
            };
            assert_eq!(import_all(&again).unwrap().len(), 5);
        }
    }
    let place = Place::new();
    let request = place.request(place.source(&two_images()));
    let imported = import_all(&request).unwrap();
    let ids: Vec<_> = imported.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["one", "two", "x-one-latest", "x-two-latest"]);
}

#[test]
fn all_images_of_what_has_none() {
    let place = Place::new();
    let source = place.source(&Tar::of([file("etc/a", "x")]));
    let error = import_all(&place.request(source)).unwrap_err().to_string();
    assert!(
        error.contains("which has no name") && error.contains("--id"),
        "{error}"
    );
    assert!(!place.base().exists());
}

#[test]
fn an_archive_that_is_both_is_read_as_the_one_with_digests() {
    let mut files = docker(&layers(), &["web:1"]);
    files.0.extend(oci(&layers()).0);
    let place = Place::new();
    assert_eq!(place.import(&files.into_tar()).unwrap().format, Format::Oci);
    assert_eq!(contents(&place), MERGED);
}

#[test]
fn a_replaced_image_is_gone_and_its_files_are_new() {
    let place = Place::new();
    place.import(&oci(&layers()).into_tar()).unwrap();
    let source = place.source(&Tar::of([dir("etc"), item(EntryType::Fifo, "new")]));
    let again = place.request(&source);
    let error = import(&again).unwrap_err().to_string();
    assert!(error.contains("an image of that id exists"), "{error}");
    assert_eq!(contents(&place), MERGED);
    import(&ImportRequest {
        replace: true,
        durable: true,
        ..again
    })
    .unwrap();
    assert_eq!(contents(&place), ["/", "/etc", "/new"]);
    assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    assert_eq!(
        fs::read_to_string(place.images().join("img.env")).unwrap(),
        ""
    );
    let meta: serde_json::Value =
        serde_json::from_slice(&fs::read(place.images().join("img.json")).unwrap()).unwrap();
    assert_eq!(
        meta,
        json!({
            "user": null, "workdir": null, "entrypoint": null, "cmd": null, "labels": null,
            "stop_signal": null, "volumes": null, "ports": null, "healthcheck": null
        })
    );
}
