export { createMediaFactory, type ClosableMediaFactory, type MediaOptions } from './media-factory.js';
