"""Groups in hard times: bad input, members that die, brokers that are killed, disks that fill."""
