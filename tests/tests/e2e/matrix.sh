# The life of one container in one surrounding: a line for each part of it, `PART yes` or `PART no: WHY`.
# SC is the binary, TAR an image, S its places, C and L options of create-fs and launch, V a directory to be made.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p "$V" && echo volume > "$V/file" || exit 1
$SC image import "$TAR" --id matrix $S > "$V.out" 2>&1 || { cat "$V.out"; exit 1; }

no() { echo "$1 no: $(grep -v '^start-container: warning' "$V.err" | tr '\n' ' ')"; }
exec_in() { $SC subcontainer exec --env=PATH=/bin $S "$R" "$@" 2> "$V.err"; }

if R=$($SC subcontainer create-fs $S $C matrix 2> "$V.err"); then echo create-fs yes; else no create-fs; exit; fi

$SC subcontainer launch $S $L "$R" 2> "$V.launch" & P=$!
if exec_in true; then echo launch yes; else cp "$V.launch" "$V.err"; no launch; fi
if [ "$(exec_in id -u)" = 0 ]; then echo exec yes; else no exec; fi

if $SC bind-mount $S --source "$V" --target "$R/late" 2> "$V.err" && [ "$(exec_in cat /late/file)" = volume ]; then
    echo late-mount yes
else
    no late-mount
fi
if $SC bind-mount $S --source "$V" --target "$R/mapped" --idmap 0:1000 2> "$V.err" \
    && [ "$(exec_in stat -c %u /mapped/file)" = 1000 ]; then
    echo idmapped-volume yes
else
    no idmapped-volume
fi

if $SC subcontainer mount add $S "$R" "type=bind,src=$V,dst=/added" 2> "$V.err" \
    && [ "$(exec_in cat /added/file)" = volume ]; then
    echo mount-add yes
else
    no mount-add
fi

kill $P
wait $P
if $SC subcontainer destroy-fs $S "${R##*/}" 2> "$V.err" && [ ! -e "$R" ]; then echo destroy yes; else no destroy; fi
