// What a bundler does for browsers by the `browser` field of @libp2p/webrtc's package.json.

const FOR_BROWSERS = [
  'private-to-public/transport.js', 'private-to-public/listener.js', 'private-to-public/utils/get-rtcpeerconnection.js',
  'dist/src/webrtc/index.js'
]

export async function resolve (specifier, context, next) {
  const found = await next(specifier, context)
  if (found.url.includes('@libp2p/webrtc') && FOR_BROWSERS.some((file) => found.url.endsWith(file))) {
    found.url = found.url.replace(/\.js$/, '.browser.js')
  }
  return found
}
