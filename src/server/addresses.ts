/** Names, addresses and origins as they are written, in requests and in settings. */

import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';

const REGISTERED_NAME = /^[a-z0-9_](?:[a-z0-9._-]{0,252})$/;
const AUTHORITY = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{0,5}))?$/;

/** Whether nobody beyond this machine reaches the name or address. */
export function isLoopback(name: string): boolean {
  if (name === 'localhost' || name.endsWith('.localhost')) return true;
  if (isIPv4(name)) return LOOPBACK.check(name, 'ipv4');
  return isIPv6(name) && LOOPBACK.check(name, 'ipv6');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export interface Host {
  name: string;
  /** With its port. */
  text: string;
}

export function parseHost(text: string): Host | undefined {
  const [, bracketed, plain, port] = AUTHORITY.exec(text.toLowerCase()) ?? [];
  if (Number(port ?? 0) > 65_535) return undefined;
  const suffix = port ? `:${port}` : '';
  if (bracketed !== undefined)
    return isIPv6(bracketed) && !bracketed.includes('%')
      ? { name: plainAddress(bracketed), text: `[${bracketed}]${suffix}` }
      : undefined;
  const name = plain?.replace(/\.$/, '') ?? '';
  return REGISTERED_NAME.test(name) ? { name, text: `${name}${suffix}` } : undefined;
}

/** What a browser may say of the page that asks; `null` where it does not tell. */
export function isOrigin(text: string): boolean {
  return text === 'null' || /^[a-z][a-z0-9+.-]*:\/\/(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i.test(text);
}

/** An origin for a list, as browsers write it: lower case, without the port that its scheme implies; never `null`. */
export function listedOrigin(text: string): string | undefined {
  const bare = text.replace(/\/$/, '').toLowerCase();
  if (bare === 'null' || !isOrigin(bare)) return undefined;
  if (!/^https?:/.test(bare)) return bare;
  return URL.canParse(bare) ? new URL(bare).origin : undefined;
}

/** A host name or address for a list, also with a port, or of IPv6 without brackets. */
export function listedHost(text: string): string | undefined {
  return parseHost(isIPv6(text) ? `[${text}]` : text)?.name;
}

/** An address of the web alone: http or https, no user, query or fragment; what URL parsers repair is no address here. */
const WEB_ADDRESS = /^https?:\/\/[^/@\\?#\s]+(?:\/[^\\?#\s]*)?$/i;

/** Without a slash at its end, so that paths can follow. */
export function webAddress(text: string): string | undefined {
  if (!WEB_ADDRESS.test(text) || !URL.canParse(text)) return undefined;
  const { href, hostname } = new URL(text);
  return parseHost(hostname) ? href.replace(/\/+$/, '') : undefined;
}

/** IPv6 in its shortest form; where it stands for an address of IPv4, however that is written, that one. */
export function plainAddress(address: string): string {
  const [bare = ''] = address.split('%');
  if (!isIPv6(bare)) return address;
  const shortest = new URL(`http://[${bare}]`).hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(shortest) ?? [];
  if (high === undefined || low === undefined) return shortest;
  return [high, low].flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff]).join('.');
}

/** Of an entry of X-Forwarded-For, as proxies write them: also with a port, and IPv6 in brackets with it. */
export function forwardedAddress(entry: string): string | undefined {
  const [, bracketed, beforePort] = /^(?:\[([^\]]*)\](?::\d{1,5})?|([\d.]+):\d{1,5})$/.exec(entry) ?? [];
  const address = plainAddress(bracketed ?? beforePort ?? entry);
  return isIP(address) === 0 || (bracketed !== undefined && !isIPv6(bracketed)) ? undefined : address;
}

/** One household has one IPv4 address, or 2^64 of IPv6. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined ? before : [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after];
  return `${groups.slice(0, 4).join(':')}::/64`;
}
