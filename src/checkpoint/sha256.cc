#include "checkpoint/sha256.h"

#include <openssl/evp.h>

#include "megamoe/error.h"

namespace megamoe {

void Sha256::FreeContext::operator()(evp_md_ctx_st* context) const noexcept { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
    throw Error(Code::kInternal, "SHA-256: libcrypto cannot start a digest");
}

void Sha256::update(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1)
    throw Error(Code::kInternal, "SHA-256: libcrypto cannot hash ", bytes.size(), " bytes");
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest{};
  if (EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) != 1)
    throw Error(Code::kInternal, "SHA-256: libcrypto cannot finish a digest");
  return digest;
}

Sha256Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace megamoe
