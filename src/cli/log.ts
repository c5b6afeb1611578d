import { type Logger, pino } from 'pino';
import type { ServerConfig } from '../server/config.js';
import { logStream } from './terminal.js';

/** The service's own log: a JSON object a line, to standard output. An `error` is written with its stack. */
export function createLog(level: ServerConfig['logLevel']): Logger {
  return pino({ level, serializers: { error: pino.stdSerializers.err } }, logStream(pino.destination(1)));
}
