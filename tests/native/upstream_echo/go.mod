module upstream_echo

go 1.24
