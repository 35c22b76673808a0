"""The Azure Functions host for this machine: what Core Tools' `func start` would be, for the triggers used here.

A host process (`python -m localcloud.functions_host`) is configured by its environment, as in Azure, and starts worker
processes that drive the real Python worker library (azure-functions-runtime), the one that production uses.

    errors          what can go wrong
    frames          what goes over the wire between host and worker
    messages        duck types in the shape of the worker library's protobuf messages
    worker          the worker process
    worker_pool     the host's side of it: start, dispatch, time-outs, restarts
    host_json       host.json, checked
    connections     identity-based connections, host id
    bindings        the functions' triggers, with %SETTING% resolved
    trigger_context what each trigger is given by the host
    queue_listener  polling, visibility, dequeue count, poison: shared by blob and queue triggers
    blob_trigger    webhook event -> internal queue -> function
    queue_trigger   queue message -> function
    timer           NCRONTAB schedules
    platform_times  the platform's times that tests shorten
    blob_properties, system_text_json
                    .NET's forms of what goes to a worker
    http_routes     HTTP routes, requests and responses
    keys            who may call what
    site            the web server: webhook, routes, admin endpoints
    host            puts them together
    process         starts a host as a child process, waits until it runs, and starts it again when it ends
"""
