"""Azure on a laptop: what Blobsight needs of the cloud, as processes of this machine.

Storage is the real emulator, over HTTPS with tokens; functions run in the real Python worker; identity, Event Grid
and the model are stand-ins written from the services' documented behaviour.

    cloud           puts the parts together and sets them up as infra/bicep does in Azure
    demo, up        what `make demo` and `make up` show
    certificates    TLS for 127.0.0.1
    azurite         the storage emulator
    identity        the managed-identity endpoint
    front           the emulator's standard ports, and the events it does not raise
    event_grid      delivers the events
    functions_host  runs function_app.py as the platform does
    model           answers about pictures
"""
