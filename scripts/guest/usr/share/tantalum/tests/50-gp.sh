# shellcheck shell=dash
# The way of a client application through OP-TEE to trusted applications of ours, and through them to a partition.
. /usr/share/tantalum/lib.sh

if [ ! -x /usr/bin/gp-test ]; then
    skipped gp "its programs are not there"
    exit 0
fi

gp-test >/tmp/gp.log 2>&1
status=$?
tee -a "$RESULTS" </tmp/gp.log
# One that dies can't tell.
case $status in 0 | 1) ;; *) failed gp "it ended with status $status" ;; esac

check gp::double [ "$(double 21)" = 42 ]
