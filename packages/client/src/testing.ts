/** `@longlive/client/testing`: a service in memory, for tests of programs that use the kit. */
export { createMock, type MockOptions, MockService } from './testing/mock.js';
