"""A burst of images over many instances that share a quota, on a clock that jumps.

    make simulate ARGS=--quick
    make simulate ARGS=--nights      # images that go by batch

The app's own code decides how a burst goes: deliveries, governor, retries, claims, analysis and the adapters of storage
and model are those that are deployed. Their surroundings are simulated: storage behind the SDK's calls, the host's
queues and instances, and the model service with its quota. A seed decides everything.
"""
