-- The peer "nginx with Lua": signature, issuer, audience, expiry and a scope of a bearer token, with what was verified kept in a
-- shared dictionary. OpenSSL checks the signature, through the libcrypto that nginx has loaded already.
local ffi = require("ffi")
ffi.cdef([[
typedef struct bio_st BIO; typedef struct evp_pkey_st EVP_PKEY; typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct evp_md_st EVP_MD; typedef struct engine_st ENGINE; typedef struct evp_pkey_ctx_st EVP_PKEY_CTX;
BIO *BIO_new_mem_buf(const void *buf, int len); int BIO_free(BIO *a);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bp, EVP_PKEY **x, void *cb, void *u);
EVP_MD_CTX *EVP_MD_CTX_new(void); void EVP_MD_CTX_free(EVP_MD_CTX *ctx); const EVP_MD *EVP_sha256(void);
int EVP_DigestVerifyInit(EVP_MD_CTX *ctx, EVP_PKEY_CTX **pctx, const EVP_MD *type, ENGINE *e, EVP_PKEY *pkey);
int EVP_DigestVerify(EVP_MD_CTX *ctx, const char *sig, size_t siglen, const char *tbs, size_t tbslen);
]])
local C = ffi.load("libcrypto.so.3")

local function decoded(part)
  return ngx.decode_base64((part:gsub("-", "+"):gsub("_", "/")) .. string.rep("=", -#part % 4))
end

-- A claim of the flat JSON that tokens.mjs writes; a library would be used where one is installed, and only a token's first sight pays.
local function claim(text, name)
  return text:match('"' .. name .. '":"([^"\\]*)"') or tonumber(text:match('"' .. name .. '":(%d+)'))
end

local function integer(bytes)
  bytes = bytes:gsub("^%z+", "")
  if bytes == "" or bytes:byte(1) > 127 then bytes = "\0" .. bytes end
  return "\2" .. string.char(#bytes) .. bytes
end

-- JWS writes r and s one after the other, OpenSSL wants them as DER.
local function as_der(signature)
  local both = integer(signature:sub(1, 32)) .. integer(signature:sub(33))
  return "\48" .. string.char(#both) .. both
end

local function signed_by(key, text, signature)
  local context = C.EVP_MD_CTX_new()
  local good = C.EVP_DigestVerifyInit(context, nil, C.EVP_sha256(), nil, key) == 1
    and C.EVP_DigestVerify(context, signature, #signature, text, #text) == 1
  C.EVP_MD_CTX_free(context)
  return good
end

local function new(file, alg, issuer, audience, scope)
  local handle = assert(io.open(file))
  local pem = handle:read("*a")
  handle:close()
  local bio = C.BIO_new_mem_buf(pem, #pem)
  local key = C.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
  C.BIO_free(bio)
  assert(key ~= nil, "no public key in " .. file)

  -- When the token expires, if all of it is good.
  local function verified(token)
    local head, body, tail = token:match("^([^.]+)%.([^.]+)%.([^.]+)$")
    if not head then return end
    local header, claims, signature = decoded(head), decoded(body), decoded(tail)
    if not header or not claims or not signature or claim(header, "alg") ~= alg then return end
    if alg == "ES256" then
      if #signature ~= 64 then return end
      signature = as_der(signature)
    end
    if not signed_by(key, head .. "." .. body, signature) then return end
    local scopes = " " .. (claim(claims, "scope") or "") .. " "
    if claim(claims, "iss") ~= issuer or claim(claims, "aud") ~= audience then return end
    return scopes:find(" " .. scope .. " ", 1, true) and claim(claims, "exp")
  end

  return function()
    local sent = ngx.var.http_authorization
    local token = sent and sent:sub(1, 7) == "Bearer " and sent:sub(8)
    if not token then return ngx.exit(401) end
    local known = ngx.shared.verified
    local expires = known:get(token)
    if not expires then
      expires = verified(token)
      if not expires then return ngx.exit(401) end
      known:set(token, expires, 300)
    end
    if expires <= ngx.time() then return ngx.exit(401) end
  end
end

return { new = new }
