#!/usr/bin/env bash
# A real S3 server for tests and for play: Ceph's RADOS Gateway with one monitor and one disk, as plain processes of
# the calling user on 127.0.0.1. It refuses a second create of the same key, which is what the lakehouse rests on.
set -euo pipefail

PACKAGES=(radosgw ceph-mon ceph-osd)
BINARIES=(radosgw radosgw-admin ceph-mon ceph-osd ceph ceph-authtool monmaptool)
export S3DEV_KEY=test S3DEV_SECRET=testsecret S3DEV_BUCKET=lakehouse
MISSING=3 # exit code of `up` when the server is not installed

usage() {
  cat >&2 <<EOF
usage: tools/s3dev.sh install           install the Debian packages: ${PACKAGES[*]}
       tools/s3dev.sh up   DIR [PORT]   start the server with its data in DIR, on PORT (9200) and PORT+1
       tools/s3dev.sh env  DIR          print the environment that a client needs, for eval
       tools/s3dev.sh down DIR          stop the server; DIR keeps its data for the next \`up\`
EOF
  exit 2
}

say() { printf 's3dev: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
uuid() { cat /proc/sys/kernel/random/uuid; }
cluster() { ceph -c "$conf" --connect-timeout 20 "$@"; }

missing_binaries() { for name in "${BINARIES[@]}"; do command -v "$name" >/dev/null || echo "$name"; done; }

install() {
  [ -n "$(missing_binaries)" ] || { say "already installed"; return; }
  local root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die "installing ${PACKAGES[*]} needs root: run it with sudo"
    root=(sudo -n)
  fi
  command -v apt-get >/dev/null || die "no apt-get here: install Ceph's ${PACKAGES[*]} by other means"
  say "installing ${PACKAGES[*]}"
  "${root[@]}" apt-get -qq update
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${PACKAGES[@]}" >&2
}

# Prints the pid of one of our processes, or nothing. A pid file may be stale and its number taken by a stranger.
pid_of() {
  local pid
  pid=$(cat "$dir/run/$1.pid" 2>/dev/null) || return 0
  if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$conf"; then echo "$pid"; fi
}

stop() {
  local name pid
  # SIGKILL: a clean end takes seconds, and the disk replays its log after a crash anyway.
  for name in client.rgw.a osd.0 mon.a; do
    pid=$(pid_of "$name")
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || :
  done
}

write_conf() {
  mkdir -p "$dir"/{mon,osd,run,log}
  cat >"$conf" <<EOF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$((port + 1))/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# Without the old protocol the monitor takes one port, the next after the gateway's.
ms bind msgr1 = false
keyring = $dir/keyring
pid file = $dir/run/\$type.\$id.pid
log file = $dir/log/\$type.\$id.log
# No admin socket: its path would be too long under a deep temporary folder.
admin socket =
run dir = $dir/run
crash dir = $dir/run
debug rgw = 0
# One disk holds one copy of everything.
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
# Few placement groups, and none made later: each costs start-up time.
osd pool default pg num = 8
osd pool default pg autoscale mode = off
# The monitor decides at once instead of gathering proposals, and runs on a nearly full disk.
paxos propose interval = 0.02
paxos min wait = 0.01
mon data avail crit = 1
# A gateway that was killed leaves watches behind; the next one need not wait 30 s for them.
osd client watch timeout = 3
auth allow insecure global id reclaim = false
mon data = $dir/mon
osd data = $dir/osd
# 896 MiB, the least that the disk accepts; the default is 4 GiB.
osd memory target = 939524096
# The disk is a sparse file of at most 16 GiB: it takes the space of what was written to it.
bluestore block create = true
bluestore block size = 17179869184
# Deleted objects free their space within seconds, not after two hours.
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw data = $dir
rgw thread pool size = 64
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
EOF
}

create_monitor() {
  ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
  for name in client.admin osd.0 client.rgw.a; do
    ceph-authtool "$dir/keyring" --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *' >/dev/null
  done
  monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$((port + 1))/0]" "$dir/monmap" >/dev/null
  ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
}

create_disk() {
  local id
  id=$(uuid)
  cluster osd new "$id" >/dev/null
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$id" &>"$dir/log/mkfs.log"
}

wait_for_disk() {
  local _
  for _ in $(seq 100); do
    if cluster osd stat 2>/dev/null | grep -q ' 1 up'; then return; fi
    sleep 0.1
  done
  die "the disk did not come up: see $dir/log"
}

# Creates the bucket as soon as the gateway answers. Plain Python, for machines without curl and without our packages.
create_bucket() {
  "${PYTHON:-python3}" - "$(endpoint)" <<'EOF'
import base64, email.utils, hashlib, hmac, http.client, os, sys, time

key, secret, bucket = (os.environ[f"S3DEV_{name}"] for name in ("KEY", "SECRET", "BUCKET"))
deadline = time.monotonic() + 60
while True:
    date = email.utils.formatdate(usegmt=True)
    signed = hmac.new(secret.encode(), f"PUT\n\n\n{date}\n/{bucket}".encode(), hashlib.sha1).digest()
    headers = {"Date": date, "Authorization": f"AWS {key}:{base64.b64encode(signed).decode()}"}
    connection = http.client.HTTPConnection(sys.argv[1].removeprefix("http://"), timeout=30)
    try:
        connection.request("PUT", f"/{bucket}", headers=headers)
        status = connection.getresponse().status
    except OSError as error:
        status = error
    if status == 200:
        break
    if time.monotonic() > deadline:
        sys.exit(f"s3dev: the gateway did not make the bucket {bucket}: {status}")
    time.sleep(0.05)
EOF
}

up() {
  local absent
  absent=$(missing_binaries)
  if [ -n "$absent" ]; then
    say "not installed:" $absent "- get the server with: tools/s3dev.sh install (Debian, Ubuntu)"
    exit "$MISSING"
  fi
  if [ -n "$(pid_of client.rgw.a)" ]; then say "already running at $(endpoint)"; return; fi
  stop
  trap '[ -n "${started:-}" ] || stop' EXIT
  if [ ! -f "$dir/complete" ]; then
    rm -rf "$dir"/{mon,osd,run,log,keyring,monmap,ceph.conf}
    fsid=$(uuid)
    write_conf
    create_monitor
  fi
  ceph-mon -c "$conf" -i a
  [ -f "$dir/complete" ] || create_disk
  ceph-osd -c "$conf" -i 0 >/dev/null 2>&1
  wait_for_disk
  if [ ! -f "$dir/complete" ]; then
    radosgw-admin -c "$conf" -n client.rgw.a user create --uid=dev --display-name=dev \
      --access-key="$S3DEV_KEY" --secret-key="$S3DEV_SECRET" >/dev/null
  fi
  radosgw -c "$conf" -n client.rgw.a
  create_bucket
  touch "$dir/complete"
  started=yes
}

endpoint() { sed -n 's/^rgw frontends = .*endpoint=\([^ ]*\).*/http:\/\/\1/p' "$conf"; }

# The checksum setting: without it pyarrow sends trailing checksums that this gateway does not understand.
print_env() {
  [ -f "$conf" ] || die "no server in $dir: start it with: tools/s3dev.sh up $dir"
  cat <<EOF
export AWS_ENDPOINT_URL=$(endpoint)
export AWS_ALLOW_HTTP=true
export AWS_ACCESS_KEY_ID=$S3DEV_KEY
export AWS_SECRET_ACCESS_KEY=$S3DEV_SECRET
export AWS_REGION=us-east-1
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required
EOF
}

[ $# -ge 1 ] || usage
if [ "$1" = install ]; then install; exit; fi
[ $# -ge 2 ] || usage
dir=$(realpath -m "$2") conf=$(realpath -m "$2")/ceph.conf port=${3:-9200}
case $1 in
  up) up ;;
  env) print_env ;;
  down) stop ;;
  *) usage ;;
esac
