import { loadAddon, type OpenH264, openOpenH264 } from '../../src/engine/index.js';

/** The encoder of this machine; undefined where the native core or the library is missing, which in CI neither may be. */
export function localOpenH264(threads = 1): OpenH264 | undefined {
  try {
    return openOpenH264(loadAddon(), threads);
  } catch (error) {
    if (process.env['CI']) throw error;
    return undefined;
  }
}
