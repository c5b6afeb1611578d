/** What a model package may be called: it names a directory, a part of URLs and of identifiers. */
export const PACKAGE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
