#!/bin/sh
# Writes numbered steps to the file systems on /data/vdb and /data/vdc, in lock-step: a step is
# durable on the first before it begins on the second. So at any instant the first shows as many
# steps as the second, or one more. Each step also makes, renames and removes files, so that there
# is always something in the file systems' own journals.
#
# scripts/check-journal says whether a copy of such a disk is whole, and how many steps it shows.

steps() { wc -l <"/data/$1/journal" 2>/dev/null || echo 0; }

write() {
    cd "/data/$1" || exit 1
    cp journal new 2>/dev/null
    mv new "copy$(($2 % 4))" 2>/dev/null
    mkdir "folder$2"
    rmdir "folder$(($2 - 3))" 2>/dev/null
    printf '%07d\n' "$2" | dd of=journal oflag=append conv=notrunc,fsync 2>/dev/null ||
        exit 1 # It shuts down.
}

# What is open is not unmounted while the machine shuts down, so no step lands beside its disk.
exec 8</data/vdb 9</data/vdc

# After a loss of power the second may be a step behind.
step=$(steps vdc)
if [ "$(steps vdb)" -gt "$step" ]; then
    step=$((step + 1))
    write vdc "$step"
fi
while :; do
    step=$((step + 1))
    write vdb "$step"
    write vdc "$step"
    echo "wrote $step of $(cat /sys/block/vdb/size)" >/dev/ttyS0
done
