#!/bin/sh
# Runs PostgreSQL on the disk of scripts/database-disk, its second, and commits rows to it all the
# time, each numbered. On the console it says
#
#   database: crashed, 12 changes to replay     what it found: how it had ended, and how many
#   database: up                                changes of tables recovery must do again
#   database: rows 1 to 34, 34 of them
#   wrote 35 of ledger                          a row whose commit was acknowledged
base=/data/vdb
data=$base/database
bin=$base/lib/postgresql/15/bin
export PATH="$PATH:$bin" LD_LIBRARY_PATH="$base/lib"
say() { echo "$*" >/dev/ttyS0; }
sql() { psql -h /run -U postgres -X -q -A -t "$@"; }

# The hooks that came along, and what they need of a system.
[ ! -e /opt/fsfreeze-hook ] || cp /opt/fsfreeze-hook /etc/qemu/fsfreeze-hook
[ ! -e /opt/postgresql ] || cp /opt/postgresql /etc/qemu/fsfreeze-hook.d/50-postgresql
[ ! -e /opt/database-trial.sh ] || cp /opt/database-trial.sh /etc/qemu/fsfreeze-hook.d/60-trial
mkdir -p /var/log
echo 'postgres:x:70:70::/:/bin/sh' >>/etc/passwd
mkdir -p /etc/default
cat >/etc/default/freeze-postgresql <<'SETTINGS'
export PATH=/bin:/data/vdb/lib/postgresql/15/bin LD_LIBRARY_PATH=/data/vdb/lib
PSQL="psql -h /run -U postgres"
HOLD=ledger
SETTINGS

control() { pg_controldata "$data" | sed -n "s/^$1: *//p"; }
case "$(control 'Database cluster state')" in
    'shut down') ended='shut down' ;;
    *) ended=crashed ;;
esac
redo=$(control "Latest checkpoint's REDO location")
changes=$(pg_waldump -p "$data/pg_wal" --start "$redo" 2>/dev/null | grep -c '^rmgr: \(Heap\|Btree\)')
say "database: $ended, $changes changes to replay"

# Nobody has it open: the machine has just started.
rm -f "$data/postmaster.pid"
chown -R 70:70 "$data"
chmod 700 "$data"
chmod 777 /run
start-stop-daemon -S -c 70:70 -x "$bin/postgres" -- -D "$data" >>"$base/log" 2>&1 &
until sql -c 'SELECT 1' >/dev/null 2>&1; do usleep 100000; done
say 'database: up'
last=$(sql -c 'SELECT coalesce(max(number), 0) FROM ledger')
say "database: $(sql -c "SELECT 'rows 1 to $last, ' || count(*) || ' of them' FROM ledger WHERE number BETWEEN 1 AND $last")"

# A statement is a transaction, and the next is sent when this one is acknowledged.
number=$last
while :; do
    number=$((number + 1))
    echo "INSERT INTO ledger VALUES ($number, repeat('entry $number ', 20)) RETURNING number;"
done | sql | while read -r number; do say "wrote $number of ledger"; done
