#!/usr/bin/env bash
# The teaching lab of examples/nfs-lab from start to finish, on one machine and without touching its own services: an NFS server in
# namespaces of its own, a mount, nginx on the loopback, and a client that downloads the appliance, checks it and boots it until its
# root is up over NFS. Then a line of the config changes, a kernel is upgraded in the root, and all is made the classic way, too.
# At the end everything is taken down. Installs what is missing and builds.
#
# Environment: LAB=small (default; busybox, seconds) or LAB=debian (Debian 12, 700 MiB below examples/nfs-lab/generated, minutes);
# MIRAGEFS (the program to show; without it, target/release/miragefs is built).
# Root, or sudo: the root belongs to root, and namespaces and loop devices are root's.
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

kind=${LAB:-small}
example=examples/nfs-lab
root=$PWD/$example/generated/$kind/root
program=${MIRAGEFS:-target/release/miragefs}
# They only save an emulated machine a few seconds, but for the first one, which switches it off behind the check.
options="lab.check mitigations=off nokaslr no_timer_check tsc=reliable cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on 8250.nr_uarts=1"
scratch= nfs= nginx= current_step="the beginning"
times=()

die() {
    echo "lab.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

now() {
    echo "$EPOCHREALTIME"
}

seconds_since() { # TIME
    awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }'
}

# Run a step, say what it is, and remember how long it took.
step() { # NAME COMMAND...
    local start seconds
    start=$(now)
    current_step=$1
    printf '\n== %s\n' "$1"
    shift
    "$@"
    seconds=$(seconds_since "$start")
    times+=("$seconds	$current_step")
}

# What the last step took.
last_seconds() {
    echo "${times[-1]%%	*}"
}

clean_up() {
    local status=$?
    trap - EXIT
    [ "$status" = 0 ] || echo "lab.sh: failed in: $current_step" >&2
    take_down || status=1
    exit "$status"
}

# In the reverse order; after a failure the program itself may be what is broken.
take_down() {
    [ -n "$scratch" ] || return 0
    [ -z "$nginx" ] || end_process "$nginx"
    if mountpoint -q "$scratch/images"; then
        "$program" unmount "$scratch/images" || fusermount3 -u -z "$scratch/images" || umount --lazy "$scratch/images"
    fi
    # It may only just have been started.
    while [ -n "$nfs" ] && kill -0 "$nfs" 2>/dev/null; do
        as_root kill -KILL "$(namespace)" 2>/dev/null || true
        sleep 0.05
    done
    as_root rm -rf --one-file-system "$scratch"
    nginx='' nfs='' scratch=''
}

end_process() { # PID
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

build() {
    [ -z "${MIRAGEFS:-}" ] || { echo "using $MIRAGEFS" && return 0; }
    use_newest_cargo || die "no cargo that is new enough"
    cargo build --release --locked
}

# The older of two kernels, so that there is something to upgrade. A small root is made anew, a Debian gets the check of today.
make_root() {
    mkdir -p "$(dirname "$root")"
    exec 9>"$(dirname "$root")/lab.lock"
    flock 9
    [ "$kind" = debian ] || as_root rm -rf --one-file-system "$root"
    LAB_KERNEL=previous "$example/make-root.sh" "$kind" "$root"
    as_root "$example/make-root.sh" rewind "$root"
    as_root install -m 0755 "$example/guest/lab-check" "$root/usr/local/sbin/lab-check"
}

# What an administrator has in a directory of his own. The config's line that changes is in run.toml.
write_lab() {
    local config=lab.toml
    [ "$kind" = debian ] || config=small.toml
    mkdir "$scratch/lab" "$scratch/images" "$scratch/classic"
    cp -R "$example"/{lab.toml,small.toml,vmuser} "$scratch/lab/"
    ln -s "$root" "$scratch/lab/root"
    cat >"$scratch/lab/run.toml" <<END
include = ["$config"]

[variables]
message = "first"
options = "$options"

[images]
"stored.ova" = { format = "ova" }
END
    "$program" check "$scratch/lab/run.toml"
}

# The server's log is of use only if something fails.
serve_nfs() {
    as_root "$example/serve-nfs.sh" "$root" "$scratch/nfs.ready" >"$scratch/nfs.log" 2>&1 &
    nfs=$!
    until [ -e "$scratch/nfs.ready" ]; do
        kill -0 "$nfs" 2>/dev/null || { cat "$scratch/nfs.log" >&2; die "the NFS server ended"; }
        sleep 0.05
    done
    echo "10.0.2.2:/srv/client, which only the machines of this lab can reach"
}

# The process that holds the server's namespaces: a child of ours, or of sudo.
namespace() {
    pgrep -f -o "^unshare --net .*$scratch/nfs.ready"
}

# Until an edit's images are all ready, those before it are shown.
mount_images() {
    XDG_CACHE_HOME=$scratch/cache "$program" mount --wait "$scratch/lab/run.toml" "$scratch/images"
    ls -ls "$scratch/images"
}

serve_images() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    mkdir "$scratch/nginx"
    cat >"$scratch/nginx/nginx.conf" <<END
daemon off;
master_process off;
pid $scratch/nginx/pid;
error_log $scratch/nginx/error.log;
events {}
http {
    access_log $scratch/nginx/access.log;
    client_body_temp_path $scratch/nginx/body;
    proxy_temp_path $scratch/nginx/proxy;
    fastcgi_temp_path $scratch/nginx/fastcgi;
    uwsgi_temp_path $scratch/nginx/uwsgi;
    scgi_temp_path $scratch/nginx/scgi;
    server {
        listen 127.0.0.1:$port;
        sendfile on;
        sendfile_max_chunk 1m;
        location / { root $scratch/images; }
        location /classic/ { alias $scratch/classic/; }
    }
}
END
    nginx -p "$scratch/nginx" -c "$scratch/nginx/nginx.conf" 2>"$scratch/nginx/stderr" &
    nginx=$!
    until validators boot.ova >/dev/null 2>&1; do
        kill -0 "$nginx" 2>/dev/null || { cat "$scratch/nginx/stderr" >&2; die "nginx ended"; }
        sleep 0.05
    done
    validators boot.ova
}

# The ETag of an image, as the web server gives it.
validators() { # FILE
    curl --silent --show-error --fail --head "http://127.0.0.1:$port/$1" | tr -d '\r' | grep -i '^etag:'
}

# Wait until the server has another boot.ova than the one of ETAG.
await_other() { # ETAG
    local tries=0
    while [ "$(validators boot.ova)" = "$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 6000 ] || die "boot.ova is still the old one after a minute"
        sleep 0.01
    done
    validators boot.ova
}

fetch() { # FILE
    rm -rf "$scratch/client"
    "$example/client.py" "http://127.0.0.1:$port/$1" "$scratch/client" >"$scratch/hardware"
    cat "$scratch/hardware"
}

boot() { # MESSAGE VERSION
    local disk controller card memory
    # shellcheck source=/dev/null
    . "$scratch/hardware"
    as_root nsenter --net --target "$(namespace)" env TMPDIR="$scratch" BOOT_NIC="$card" BOOT_MEMORY="$memory" \
        BOOT_NETWORK=open BOOT_TIMEOUT=600 BOOT_MARKER="MIRAGEFS-LAB: ok: $1, $2" \
        scripts/boot-vm.sh "$disk" vmdk "$controller"
    # What the machine wrote is gone with it.
    [ ! -e "$root/etc/lab-client" ] || die "the machine wrote to the server's root"
}

change_a_line() {
    local before
    before=$(validators boot.ova)
    sed -i 's/^message = .*/message = "second"/' "$scratch/lab/run.toml"
    grep '^message' "$scratch/lab/run.toml"
    await_other "$before"
}

# As apt does it in the root, with /dev, /proc and /sys bound into it meanwhile.
upgrade_kernel() {
    before_upgrade=$(validators boot.ova)
    as_root "$example/make-root.sh" upgrade "$root"
}

# The hardware that a descriptor written by hand asks for is that of the config.
build_classic() {
    local hardware=(LAB_CONTROLLER=lsilogic LAB_CARD=E1000 LAB_MEMORY=1024)
    [ "$kind" = debian ] || hardware=(LAB_CONTROLLER=VirtualSCSI LAB_CARD=VmxNet3 LAB_MEMORY=512)
    as_root env "${hardware[@]}" LAB_SERVER=10.0.2.2 LAB_ROOT=/srv/client LAB_MESSAGE=classic LAB_OPTIONS="$options" \
        "$example/classic.sh" "$scratch/lab" "$scratch/classic.times" "$scratch/classic"
    cat "$scratch/classic.times"
}

newest_kernel() {
    find "$root/boot" -name 'vmlinuz-*' -printf '%f\n' | sed 's/^vmlinuz-//' | sort -V | tail -n 1
}

mib() { # FILE
    awk -v bytes="$(stat -c %s "$1")" 'BEGIN { printf "%8.1f MiB", bytes / 1048576 }'
}

sum() { # SECONDS...
    printf '%s\n' "$@" | awk '{ sum += $1 } END { printf "%.2f", sum }'
}

show_sizes() {
    echo "$(mib "$scratch/images/disk.img")  disk.img"
    echo "$(mib "$scratch/images/disk.vmdk")  disk.vmdk"
    echo "$(mib "$scratch/images/stored.ova")  stored.ova, compression = \"stored\""
    echo "$(mib "$scratch/images/boot.ova")  boot.ova, compression = \"deflate\""
    echo "$(mib "$scratch/classic/boot.ova")  the classic way's boot.ova, compressed by qemu-img"
}

row() { # NAME CLASSIC MIRAGEFS
    printf '| %-48s | %9s | %9s |\n' "$@"
}

# From a changed line of the config to a machine at its marker.
show_table() {
    local line name
    row "seconds" "classic" "miragefs"
    echo "|--------------------------------------------------|----------:|----------:|"
    while read -r line name; do row "$name" "$line" ""; done <"$scratch/classic.times"
    row "notice, plan, compress what changed" "" "$changed"
    row "download, check the manifest, take the disk out" "$classic_fetched" "$changed_fetched"
    row "until the client has the disk" "$(sum "$classic_built" "$classic_fetched")" "$(sum "$changed" "$changed_fetched")"
    row "boot until the marker, and power off" "$classic_booted" "$changed_booted"
    row "all" "$(sum "$classic_built" "$classic_fetched" "$classic_booted")" \
        "$(sum "$changed" "$changed_fetched" "$changed_booted")"
}

# Processes of a mount and of a namespace end a moment after it.
what_is_left() {
    mountpoint "$left/images" 2>/dev/null || ls -d "$left" 2>/dev/null || pgrep -a -f "$left" || losetup --list | grep -F "$left"
}

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

case $kind in
small | debian) ;;
*) die "LAB=$kind: expected small or debian" ;;
esac
scripts/setup.sh lab
build
program=$(realpath "$program")
scratch=$(mktemp -d "${TMPDIR:-/tmp}/miragefs-lab.XXXXXX")
step "the clients' root ($kind)" make_root
oldest=$(newest_kernel)
step "the lab's directory" write_lab
step "NFS server, in namespaces of its own" serve_nfs
step "miragefs mount: the images, compressed for the first time" mount_images
step "nginx over the mount" serve_images
step "a client downloads boot.ova, checks it, takes the disk out" fetch boot.ova
step "it boots" boot first "$oldest"

step "a line of the config changes" change_a_line
changed=$(last_seconds)
step "a client downloads boot.ova again" fetch boot.ova
changed_fetched=$(last_seconds)
step "it boots with the new line" boot second "$oldest"
changed_booted=$(last_seconds)

step "a kernel upgrade in the clients' root" upgrade_kernel
step "until the mount shows it" await_other "$before_upgrade"
newest=$(newest_kernel)
step "a client downloads boot.ova once more" fetch boot.ova
step "it boots with kernel and initrd $newest" boot second "$newest"
step "back to the older kernel" as_root "$example/make-root.sh" rewind "$root"

step "the same appliance the classic way" build_classic
classic_built=$(last_seconds)
step "a client downloads it" fetch classic/boot.ova
classic_fetched=$(last_seconds)
step "it boots" boot classic "$oldest"
classic_booted=$(last_seconds)

printf '\n== sizes\n'
show_sizes
printf '\n== from a changed line to a machine at its marker, seconds\n'
show_table
left=$scratch
step "all is taken down" take_down
for _ in $(seq 100); do
    what_is_left || break
    sleep 0.05
done
if what_is_left; then die "$left: something is left"; fi
printf '\n== seconds\n'
printf '%s\n' "${times[@]}"
echo "miragefs: the lab was served, downloaded, booted over NFS, changed, upgraded and taken down"
