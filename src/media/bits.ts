/** Bits and Exp-Golomb codes of H.264 (ITU-T H.264, 7.2 and 9.1), and the bytes that keep start codes out of them. */

/** Reads an RBSP: emulation prevention already removed. */
export class BitReader {
  #position = 0;

  constructor(private readonly bytes: Uint8Array) {}

  get position(): number {
    return this.#position;
  }

  bits(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) {
      const byte = this.bytes[this.#position >> 3];
      if (byte === undefined) throw new RangeError('parameter set or slice header cut off');
      value = value * 2 + ((byte >> (7 - (this.#position & 7))) & 1);
      this.#position++;
    }
    return value;
  }

  ue(): number {
    let zeros = 0;
    while (this.bits(1) === 0) if (++zeros > 31) throw new RangeError('bad Exp-Golomb code');
    return 2 ** zeros - 1 + this.bits(zeros);
  }

  se(): number {
    const code = this.ue();
    return code % 2 === 1 ? (code + 1) / 2 : -code / 2;
  }
}

/** The inverse of BitReader. */
export class BitWriter {
  readonly #bits: number[] = [];

  get length(): number {
    return this.#bits.length;
  }

  bits(value: number, count: number): this {
    for (let i = count - 1; i >= 0; i--) this.#bits.push(Math.floor(value / 2 ** i) & 1);
    return this;
  }

  ue(value: number): this {
    const length = Math.floor(Math.log2(value + 1));
    return this.bits(0, length).bits(value + 1, length + 1);
  }

  se(value: number): this {
    return this.ue(value > 0 ? 2 * value - 1 : -2 * value);
  }

  /** The bits so far; what is missing of the last byte is zero. */
  bytes(): Uint8Array {
    const bytes = new Uint8Array(Math.ceil(this.#bits.length / 8));
    this.#bits.forEach((bit, i) => (bytes[i >> 3]! |= bit << (7 - (i & 7))));
    return bytes;
  }

  /** The bits with the RBSP's stop bit and alignment. */
  rbsp(): Uint8Array {
    this.#bits.push(1);
    const bytes = this.bytes();
    this.#bits.pop();
    return bytes;
  }
}

/** An RBSP with the bits from `from` up to `to` replaced by a signed Exp-Golomb code. */
export function replaceCode(rbsp: Uint8Array, from: number, to: number, value: number): Uint8Array {
  const reader = new BitReader(rbsp);
  const head = new BitWriter();
  for (let i = 0; i < from; i++) head.bits(reader.bits(1), 1);
  head.se(value);
  reader.bits(to - from);
  const total = rbsp.length * 8;
  while (head.length % 8 !== 0 && reader.position < total) head.bits(reader.bits(1), 1);
  const start = head.length >> 3;
  const [skip, shift] = [reader.position >> 3, reader.position & 7];
  const out = new Uint8Array(Math.ceil(head.length / 8) + Math.ceil((total - reader.position) / 8));
  out.set(head.bytes());
  for (let i = start, j = skip; i < out.length; i++, j++)
    out[i] = (rbsp[j]! << shift) | ((rbsp[j + 1] ?? 0) >> (8 - shift));
  let end = out.length; // the stop bit is the last one that is set
  while (end > 0 && out[end - 1] === 0) end--;
  return out.subarray(0, end);
}

/** Removes the `03` of every `00 00 03`. */
export function unescape(nal: Uint8Array): Uint8Array {
  const out = new Uint8Array(nal.length);
  let length = 0;
  for (let i = 0, zeros = 0; i < nal.length; i++) {
    const byte = nal[i]!;
    const prevention = byte === 3 && zeros >= 2;
    zeros = byte === 0 ? zeros + 1 : 0;
    if (!prevention) out[length++] = byte;
  }
  return out.subarray(0, length);
}

/** Puts a `03` wherever two zero bytes are followed by a byte below 4. */
export function escape(rbsp: Uint8Array): Uint8Array {
  const out = new Uint8Array(rbsp.length + (rbsp.length >> 1) + 1);
  let length = 0;
  for (let i = 0, zeros = 0; i < rbsp.length; i++) {
    const byte = rbsp[i]!;
    if (byte <= 3 && zeros >= 2) {
      out[length++] = 3;
      zeros = 0;
    }
    zeros = byte === 0 ? zeros + 1 : 0;
    out[length++] = byte;
  }
  return out.slice(0, length);
}
