"""A real broker for tests.

    from mqlog.testing import Broker

    with Broker() as broker:                       # own process, free port, new directory
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        ...
        broker.kill()                              # SIGKILL
        broker.restart()                           # same port, same directory: recovery

`Broker(in_process=True)` serves from threads of this process: quicker, and with `faults`.
"""

from mqlog.testing.broker import Broker, BrokerError

__all__ = ["Broker", "BrokerError"]
