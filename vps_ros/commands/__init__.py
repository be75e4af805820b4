"""One file for each subcommand of `vps-ros`."""
