#!/usr/bin/env bash
# Serve DIRECTORY read-only over NFS as /srv/client, in network, mount and process namespaces of its own: nothing of the host is
# touched, and only who enters the network namespace can reach it. Runs until it is killed (SIGKILL), and all goes with it.
#
#   serve-nfs.sh DIRECTORY READY     READY is a file that appears when the server answers
#
# Needs root, and the packages nfs-ganesha-vfs and rpcbind. `nsenter --net --target PID COMMAND`, PID being that of this script,
# runs COMMAND beside the server, which there is 127.0.0.1.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

die() {
    echo "serve-nfs.sh: $*" >&2
    exit 1
}

[ $# = 2 ] || { echo "usage: serve-nfs.sh DIRECTORY READY" >&2; exit 2; }
if [ -z "${LAB_NAMESPACE:-}" ]; then
    [ "$(id -u)" = 0 ] || die "must run as root"
    export LAB_NAMESPACE=1
    # The first process of the namespace takes all others with it when it ends.
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" "$@"
fi
root=$(realpath "$1") ready=$2

# Sockets and state of the servers, and the name that the machines know the root by.
for directory in /run /srv /var/lib/nfs; do
    mkdir -p "$directory"
    mount -t tmpfs tmpfs "$directory"
done
mkdir -p /srv/client /var/lib/nfs/ganesha /run/ganesha /run/rpcbind
mount --bind "$root" /srv/client
ip link set lo up

rpcbind -f &
for _ in $(seq 200); do
    [ ! -S /run/rpcbind.sock ] || break
    sleep 0.05
done
[ -S /run/rpcbind.sock ] || die "rpcbind does not start"

# NFS 3, which klibc's nfsmount in Debian's initrds speaks. Machines behind a translated address have ports above 1023.
cat >/run/ganesha/ganesha.conf <<'END'
NFS_Core_Param {
    Protocols = 3;
    Enable_NLM = false;
    Enable_RQUOTA = false;
}
NFSv4 { Graceless = true; }
EXPORT {
    Export_Id = 1;
    Path = /srv/client;
    Pseudo = /srv/client;
    Protocols = 3;
    Transports = TCP;
    SecType = sys;
    Access_Type = RO;
    Squash = No_Root_Squash;
    PrivilegedPort = false;
    FSAL { Name = VFS; }
}
LOG { Default_Log_Level = WARN; }
END
ganesha.nfsd -F -L STDERR -p /run/ganesha/pid -f /run/ganesha/ganesha.conf &
server=$!

# Ready is who the portmapper knows: program 100003 is NFS, 100005 the mount daemon.
registered() {
    local programs
    programs=$(rpcinfo -p 127.0.0.1) || return 1
    grep -q '^ *100003 ' <<<"$programs" && grep -q '^ *100005 ' <<<"$programs"
}
for _ in $(seq 200); do
    kill -0 "$server" 2>/dev/null || die "the NFS server does not start"
    if registered; then
        touch "$ready"
        break
    fi
    sleep 0.05
done
[ -e "$ready" ] || die "the NFS server is not registered after 10 s"
wait "$server"
