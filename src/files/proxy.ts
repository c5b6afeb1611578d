/** The proxies that the environment names: `HTTPS_PROXY` or `ALL_PROXY`, but for the hosts of `NO_PROXY`. */

import type { Agent } from 'node:https';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { getProxyForUrl } from 'proxy-from-env';

const agents = new Map<string, Agent>();

/**
 * What an https request goes through, or nothing where it goes directly. Only https does: what is reached without TLS is this
 * machine or its own network. Throws a TypeError when the proxy's address makes no sense.
 */
export function proxyAgent(url: string): Agent | undefined {
  if (!url.startsWith('https:')) return undefined;
  const proxy = withScheme(getProxyForUrl(url));
  if (proxy === '') return undefined;
  if (!/^https?:$/.test(URL.canParse(proxy) ? new URL(proxy).protocol : ''))
    throw new TypeError('HTTPS_PROXY is not the address of an HTTP proxy, such as http://proxy.example.com:3128.');
  const agent = agents.get(proxy) ?? new HttpsProxyAgent(proxy, { keepAlive: true });
  agents.set(proxy, agent);
  return agent;
}

/** `proxy.example.com:3128` is spoken to without TLS, as curl does; the library takes the scheme of what is asked for. */
function withScheme(proxy: string): string {
  const [, address] = /^https:\/\/(.+)$/.exec(proxy) ?? [];
  const names = ['https_proxy', 'all_proxy', 'npm_config_https_proxy', 'npm_config_proxy'];
  const said = names.flatMap((name) => [process.env[name], process.env[name.toUpperCase()]]);
  return address !== undefined && said.includes(address) ? `http://${address}` : proxy;
}
