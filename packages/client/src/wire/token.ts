import { UnauthorizedError } from '../errors.js';

export type TokenSource = string | (() => string | undefined | Promise<string | undefined>);

/** In a header. */
const SENDABLE = /^[\x21-\x7e]*$/;

const ASKED = Symbol('asked');

/** The token, asked for once and again whenever the service refuses it. */
export class Token {
  private current: Promise<string | undefined> | undefined;
  /** What the source gave last; a symbol while it is asked, so that a late refusal of an earlier token asks it no second time. */
  private given: string | undefined | typeof ASKED;
  private refused: { readonly token: string | undefined } | undefined;

  constructor(private readonly source: TokenSource | undefined) {}

  /** Fails with `UnauthorizedError` when the source gives only what was refused already. */
  get(): Promise<string | undefined> {
    this.current ??= this.ask();
    return this.current;
  }

  refuse(token: string | undefined): void {
    this.refused = { token };
    if (this.given === token) this.current = undefined; // Another one may have been asked for meanwhile.
  }

  private async ask(): Promise<string | undefined> {
    this.given = ASKED;
    try {
      const token = typeof this.source === 'function' ? await this.source() : this.source;
      if (token !== undefined && !SENDABLE.test(token)) throw new UnauthorizedError('No token has such characters.');
      if (this.refused && this.refused.token === token) throw new UnauthorizedError();
      this.given = token;
      return token;
    } catch (error) {
      this.current = undefined; // Who asks next asks the source anew.
      throw error;
    }
  }
}
