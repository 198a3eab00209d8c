"""Accepts on a socket that was made in another network namespace (descriptor FD) and connects to HOST PORT in this one."""

import os
import socket
import sys
import threading


def pump(source, sink):
    try:
        while octets := source.recv(65536):
            sink.sendall(octets)
    except OSError:
        pass
    for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
        try:
            end.shutdown(how)
        except OSError:
            pass


def serve(client, target):
    with client:
        try:
            server = socket.create_connection(target, timeout=10)
        except OSError:
            return
        server.settimeout(None)
        with server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()


def main():
    listener = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(listener.fileno(), False)
    target = (sys.argv[2], int(sys.argv[3]))
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, target), daemon=True).start()


main()
