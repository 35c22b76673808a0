"""Check that nothing is lost or paid twice, with thousands of uploads while everything fails that can fail.

    python -m bench.chaos --uploads 2000 --seed 1

The real worker runtime (two processes), emulator and events; a model and an Event Grid with scripted faults. Workers
are killed, the whole functions host is killed, the emulator restarts, and for a while the storage refuses to write
results: a role is missing, the container is, results are immutable or leased.

A seed decides what is uploaded, which call of which work meets which fault, which events are lost, duplicated or
delayed, and when the rest happens, so that a failure can be reproduced. The order of two processes is the machine's.

Images go by both lanes (`--lane`). In the batch lane workers are killed at chosen steps, too: before a request to
storage or to the service is done, and after it, with its answer unheard (`steps`). Uploads and submissions lose their
answers; batches are refused, fail late, expire, are cancelled in the portal, leave lines out or garble them
(`batch_faults`); their images are overwritten, deleted, touched and moved to the other lane meanwhile.

Then everything is read and compared with what was sent. Each call to the model, and each request for a blob, is
recorded with the process that made it (`ledger`). So work that was paid for twice is explained by what happened to that
very process and that very work, or is a problem (`explanations`). In the batch lane no kill explains a second payment:
only a line that the service garbled does, or a batch that was made and whose maker never heard of it. Both are counted
apart (`batch_accounts`).
"""
