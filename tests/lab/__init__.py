"""The lab: an internet of namespaces, a host with a real Docker Engine on it, and no way out.

    with Lab() as lab:
        lab.host.start_engine()
        lab.host.start_ramfw(policies.HUB_ONLY)
        assert lab.host.docker("pull", "docker.io/corp/app:1").ok
        assert lab.host.docker("pull", "ghcr.io/corp/app:1").refused

`addresses` says who lives where; `internet` plays the servers; `host` is the machine under
test; `container` is one container on it; `space` holds the namespaces and ends all that ran in
them. Nothing here touches the network namespace that it was started in.
"""
