// Nobody leaves this machine: a connection to elsewhere is refused, and named in the next answer to Python.
import { Socket } from "node:net";

export const elsewhere = [];
const connect = Socket.prototype.connect;

Socket.prototype.connect = function (...parts) {
  const [options] = Array.isArray(parts[0]) ? parts[0] : parts;
  const host = typeof options === "object" ? (options.host ?? options.path) : parts[1];
  if (!["127.0.0.1", "localhost"].includes(host)) {
    elsewhere.push(String(host));
    this.destroy(new Error(`a client wanted to reach ${host}`));
    return this;
  }
  return connect.apply(this, parts);
};
