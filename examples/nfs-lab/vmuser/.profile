# What every login of the lab starts with.
export EDITOR=nano
