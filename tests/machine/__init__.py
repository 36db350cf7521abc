"""Whole Debian machines: systemd as the first process, Docker as a service, ramfw installed.

    with Rack("trixie", materials) as rack:
        machine = rack.machine()
        machine.boot()
        assert machine.run("docker", "pull", "docker.io/corp/app:1").ok
        machine.reboot()

`rack` holds one Debian's machines and the lab's internet that they are linked to, one at a time;
`disk` is what a machine keeps when it is off; `boot` is the script that turns one on; `machine` is
what tests do with it. A machine has a network, a process tree, mounts and a cgroup tree of its
own, a kernel that is everybody's, and no way out.
"""
