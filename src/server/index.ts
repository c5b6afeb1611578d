export { type Backend, type RunningServer, serve } from './app.js';
export {
  ConfigError,
  configSchema,
  environmentName,
  loadConfig,
  type ServerConfig,
  type ServerSettings,
} from './config.js';
