//! The verbs.

use super::flags::{
    BIND_MOUNT, BUILD_EROFS, CONFINEMENT, CREATE_FS, DIRS, DRY_RUN, IMAGE, IMAGE_EXPORT, IMAGE_GC,
    IMAGE_IMPORT, IMAGE_PROGRAM, IMAGE_TAG, JSON, LAUNCH, LIMITS, MOUNTS, PROCESS, PROGRESS,
    SQUASH,
};
use super::pull_flags::IMAGE_PULL;
use super::{Flag, Verb, VerbId};

/// Of a verb that makes a container.
const LAUNCHED: &[&[Flag]] = &[
    PROCESS,
    IMAGE_PROGRAM,
    LAUNCH,
    CONFINEMENT,
    MOUNTS,
    DRY_RUN,
    DIRS,
];

/// All verbs, in the order of the help text.
pub static VERBS: &[Verb] = &[
    Verb {
        id: VerbId::Launch,
        group: "subcontainer",
        name: "launch",
        operands: "ROOTFS [COMMAND [ARG...]]",
        about: "make a root filesystem a running container",
        notes: "Stays in the foreground as long as the container lives, and ends as PID 1 ended. Without COMMAND\n\
                PID 1 is an idle init that ends on SIGTERM; with COMMAND it is COMMAND itself, unless --init.\n\
                A container that already runs on ROOTFS is ended first.\n\
                With --image and without COMMAND the image's own program is run; COMMAND are arguments of its\n\
                entrypoint, where it has one. SIGTERM reaches it as the image's stop signal. What it says of\n\
                volumes, ports and its health is in images/ID.json, and for the caller to act on.\n\
                \n\
                Profiles: confined (the default on a bare host) leaves the 14 capabilities that other engines leave,\n\
                a filter of system calls, and hides or write-protects what of /proc and /sys is the host's; outer\n\
                (the default inside somebody's user namespace) takes nothing away; hardened leaves no capability\n\
                and nothing to gain one with, and a read-only root; none is outer, said for a bare host.\n\
                \n\
                --userns=auto, or a MAP of lines INSIDE:OUTSIDE:COUNT with commas between them, is for a root\n\
                filesystem that create-fs has made with the same; a plain directory takes any MAP.\n\
                In a user namespace of its own (any but --userns=host) a container cannot bind ports below 1024 on\n\
                the caller's network, unless sysctl net.ipv4.ip_unprivileged_port_start lets everybody.",
        flags: LAUNCHED,
    },
    Verb {
        id: VerbId::Run,
        group: "subcontainer",
        name: "run",
        operands: "--image ID [COMMAND [ARG...]]",
        about: "run an image's program in a container that goes with it",
        notes: "create-fs, launch with --image, and destroy-fs in one. Ends as PID 1 ended, and what was written in\n\
                the container is gone then. If start-container is killed, the container ends at once, and its files\n\
                go with the next create-fs, run or destroy-fs. --dry-run makes a root filesystem as well, and\n\
                removes it.",
        flags: LAUNCHED,
    },
    Verb {
        id: VerbId::Exec,
        group: "subcontainer",
        name: "exec",
        operands: "ROOTFS COMMAND [ARG...]",
        about: "run a command in a running container",
        notes: "Ends as COMMAND ended. If start-container is killed, all that COMMAND started ends with it.",
        flags: &[PROCESS, IMAGE, DRY_RUN, DIRS],
    },
    Verb {
        id: VerbId::Inspect,
        group: "subcontainer",
        name: "inspect",
        operands: "ROOTFS",
        about: "tell what a running container has, as JSON",
        notes: "Read back from the kernel: namespaces, ids, capabilities, seccomp, limits, mounts, and what of /proc\n\
                and /sys is hidden or read-only. Names of fields are stable; new ones may be added.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::CreateFs,
        group: "subcontainer",
        name: "create-fs",
        operands: "IMAGE_ID [NAME]",
        about: "make a root filesystem from an image and print its path",
        notes: "The last component of the path is the GUID that destroy-fs takes. NAME is a label for people.\n\
                With --userns=auto, or with a MAP of lines INSIDE:OUTSIDE:COUNT and commas between them, files\n\
                keep their ids on disk, and the container that is launched there has these ids to itself.",
        flags: &[CREATE_FS, DIRS],
    },
    Verb {
        id: VerbId::DestroyFs,
        group: "subcontainer",
        name: "destroy-fs",
        operands: "GUID",
        about: "remove a root filesystem that create-fs made",
        notes: "Also clears what a killed launch left there. Nothing to remove is a success.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::MountAdd,
        group: "subcontainer mount",
        name: "add",
        operands: "ROOTFS MOUNT",
        about: "mount something in a running container",
        notes: "Every process inside sees it at once. MOUNT is a list of KEY=VALUE with commas between them:\n\
                \x20 type=bind      src=PATH, dst=PATH, ro, recursive=false, propagation=private|slave|shared,\n\
                \x20                idmap=FROM:TO[:RANGE][;...], nosuid, nodev, noexec\n\
                \x20 type=volume    the same with src=NAME, a directory of BASE/volumes\n\
                \x20 type=tmpfs     dst=PATH, size=64m, mode=1777, nr_inodes=10k, ro, noexec\n\
                \x20 type=overlay   lower=PATH[:PATH...], upper=PATH, work=PATH, dst=PATH, ro, nosuid, nodev, noexec\n\
                \x20 type=dev       dst=/dev: a /dev of the container's own, only for launch\n\
                What is missing of dst is made. A bind shows what is mounted below src, also later; recursive=false\n\
                does not. An attribute holds for everything below. Symlinks inside are not followed.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::MountRemove,
        group: "subcontainer mount",
        name: "rm",
        operands: "ROOTFS PATH",
        about: "take a mount of a running container away",
        notes: "With all that is mounted below it. What has files open there keeps them until it closes them.",
        flags: &[DIRS],
    },
    Verb {
        id: VerbId::MountList,
        group: "subcontainer mount",
        name: "list",
        operands: "ROOTFS",
        about: "show what is mounted in a running container",
        notes: "As the kernel has it, outermost first.",
        flags: &[JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageImport,
        group: "image",
        name: "import",
        operands: "SOURCE",
        about: "unpack an image into the store",
        notes: "SOURCE is an OCI image layout (directory or tar), a docker-archive tar, or a tar of a root\n\
                filesystem; each tar plain or compressed with gzip, zstd, xz or bzip2. It can be a pipe, and - is\n\
                stdin; an image archive out of a pipe is kept in a temporary file below BASE/images meanwhile.\n\
                A squashfs or EROFS file is copied and not unpacked: create-fs mounts it. NAME.env and NAME.json\n\
                beside such a file say how it is run.\n\
                \n\
                With --all docker.io/library/nginx:1.27 becomes nginx-1.27, ghcr.io/a/b:1 ghcr.io-a-b-1, and an\n\
                image without a name sha256- and twelve digits; ids and names are printed, one image a line.\n\
                \n\
                SIZE is in bytes, with k, m, g or t in units of 1024; none lifts a limit. Holes are not counted.\n\
                A window is what xz and zstd look back to: xz -9 takes 64m, zstd --ultra -22 takes 128m.",
        flags: &[IMAGE_IMPORT, SQUASH, LIMITS, PROGRESS, DIRS],
    },
    Verb {
        id: VerbId::ImageList,
        group: "image",
        name: "list",
        operands: "",
        about: "show which images there are",
        notes: "SIZE is that of the files in all layers, whether or not other images have the same layers.",
        flags: &[JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageRemove,
        group: "image",
        name: "rm",
        operands: "IMAGE_ID",
        about: "remove an image",
        notes: "Root filesystems that were made of it stay as they are. Its layers stay until image gc.",
        flags: &[JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageGc,
        group: "image",
        name: "gc",
        operands: "",
        about: "remove the layers that no image and no root filesystem stands on",
        notes: "The images of all base directories count that were imported to with this data directory. Where\n\
                one of them is not there, no layer is removed. What killed imports and pulls have left is\n\
                removed too.",
        flags: &[IMAGE_GC, JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageVerify,
        group: "image",
        name: "verify",
        operands: "IMAGE_ID",
        about: "compare all files of an image's layers with what they were at the import",
        notes: "Each difference is a line; with one at least the exit status is 125.",
        flags: &[JSON, DIRS],
    },
    Verb {
        id: VerbId::ImagePull,
        group: "image",
        name: "pull",
        operands: "REFERENCE",
        about: "fetch an image from a registry into the store",
        notes: "REFERENCE is [REGISTRY/]NAME[:TAG][@sha256:DIGEST], of docker.io where no registry is named.\n\
                Credentials are those that docker login and podman login wrote for the calling user.\n\
                Needs the program start-container-pull beside start-container.\n\
                With --json prints what image inspect --json does.\n\n\
                Example:\n  start-container image pull ghcr.io/example/web:1.2 --id web",
        flags: &[IMAGE_PULL, SQUASH, LIMITS, PROGRESS, JSON, DIRS],
    },
    Verb {
        id: VerbId::BuildErofs,
        group: "image",
        name: "build-erofs",
        operands: "IMAGE FILE",
        about: "make one EROFS file of an image, for an appliance",
        notes: "IMAGE is an image of the store, or a directory with a slash in its name. Nothing is compressed,\n\
                and the same image gives the same file. FILE.env and FILE.json, without FILE's own ending, say\n\
                how it is run; image import finds them there. With --json its fs-verity digest is printed, for\n\
                --verity.",
        flags: &[BUILD_EROFS, JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageInspect,
        group: "image",
        name: "inspect",
        operands: "ID",
        about: "tell what is known about an image",
        notes: "Its layers, where it came from, and what it says about how it is run.",
        flags: &[JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageTag,
        group: "image",
        name: "tag",
        operands: "ID NEW_ID",
        about: "give an image one more name",
        notes: "Layers and files are shared by both names. A plain directory has one name only.",
        flags: &[IMAGE_TAG, JSON, DIRS],
    },
    Verb {
        id: VerbId::ImageExport,
        group: "image",
        name: "export",
        operands: "ID FILE",
        about: "write an image to an archive",
        notes: "FILE is - for stdout. Layers stay layers, uncompressed; an image that is a directory, a squashfs\n\
                or an EROFS is one layer. rootfs is the merged tree alone. The same image gives the same bytes,\n\
                which are others than those that were imported.",
        flags: &[IMAGE_EXPORT, JSON, DIRS],
    },
    Verb {
        id: VerbId::BindMount,
        group: "",
        name: "bind-mount",
        operands: "",
        about: "mount a directory or a file at a second place",
        notes: "A target below BASE/subcontainers/GUID is resolved inside that root filesystem.",
        flags: &[BIND_MOUNT, DIRS],
    },
    Verb {
        id: VerbId::PipeWrap,
        group: "",
        name: "pipe-wrap",
        operands: "COMMAND [ARG...]",
        about: "run a command of the host with pipes as stdout and stderr",
        notes: "For programs that open /dev/stdout again, which sockets refuse. Ends as COMMAND ended.",
        flags: &[],
    },
];
