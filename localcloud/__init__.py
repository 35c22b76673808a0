"""Azure on a laptop: the parts of the cloud that Blobsight needs, as processes on this machine.

Storage is the real emulator, over HTTPS with tokens; functions run in the real Python worker; identity, Event Grid
and the model are stand-ins, written from the services' documentation.

    cloud           puts the parts together and sets them up as infra/bicep does in Azure
    demo, up        `make demo` and `make up`
    certificates    TLS for 127.0.0.1
    azurite         the storage emulator
    identity        the managed-identity endpoint
    front           the emulator's standard ports, and the events that it does not raise
    event_grid      delivers the events
    functions_host  runs function_app.py as the platform does
    model           answers about pictures
"""
