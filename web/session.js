/** One person on one phone: what the app keeps and calls. */

import { Api, tokensOf } from './api.js'
import { stamp } from './dates.js'
import { Socket } from './socket.js'
import { Store } from './store.js'
import { likeKey, messageKey, wire } from './wire.js'

/**
 * @typedef {object} Post
 * @property {string} nickname
 * @property {string} weather
 * @property {number} date
 * @property {number} happiness
 * @property {string} text
 * @property {string[]} categoryList
 * @property {(number | string)[]} imageIdList
 * @property {boolean} [isPublic] own posts only
 * @property {string[]} [likeNicknameList] own posts only
 * @property {boolean} [isLiked] others' posts only
 */

/** @typedef {{ sender: string, receiver: string, date: number, text: string }} Message */
/** @typedef {{ liker: string, date: number }} Like */

const hex = (/** @type {ArrayBuffer} */ bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')

/** The state of a phone and the operations of the app. */
export class Session extends Store {
  /** @param {number} phone the number of the phone */
  constructor(phone) {
    super()
    this.phone = phone
    this.api = new Api(phone)
    this.api.expired = () => this.end()
    this.nickname = ''
    this.account = ''
    this.online = false
    /** @type {Like[]} newest first */
    this.likes = []
    this.unread = { notices: 0, messages: 0 }
    /** Frames of this session, newest last. @type {Message[]} */
    this.messages = []
    /** Profile photos by nickname. @type {Map<string, Promise<string | null>>} */
    this.photos = new Map()
    /** @type {Socket[]} */
    this.sockets = []
  }

  /** Challenge, authorize code, sign-in. @param {string} email @param {string} provider */
  async signIn(email, provider) {
    const verifier = hex(crypto.getRandomValues(new Uint8Array(10)).buffer)
    const digest = await crypto.subtle.digest('SHA-512', new TextEncoder().encode(verifier))
    const { body } = await this.api.open('/auth-service/getAuthorizeCode', { codeChallenge: hex(digest) })
    const signedIn = await this.api.open('/auth-service/signIn', {
      email,
      provider,
      providerId: `${provider}-${email}`,
      codeVerifier: verifier,
      authorizeCode: body.authorizeCode,
      authorizationCode: '',
      deviceToken: `browser-${email}`,
    })
    this.api.tokens = tokensOf(signedIn.headers)
    this.account = this.api.tokens.account
    this.nickname = signedIn.body.nickname
    if (this.nickname) this.connect()
    this.changed()
  }

  /** @param {string} nickname @param {string} introduction @param {Blob | null} photo */
  async setProfile(nickname, introduction, photo) {
    const fields = { email: this.account, nickname, introduction, ...(photo ? { profileImg: photo } : {}) }
    const done = await this.api.post('/auth-service/setProfile', fields)
    if (!done.success) return false
    this.nickname = nickname
    this.photos.delete(nickname)
    this.connect()
    this.changed()
    return true
  }

  /** Opens both sockets under the current nickname. */
  connect() {
    for (const socket of this.sockets) socket.close()
    const report = () => {
      this.online = this.sockets.every((socket) => socket.socket?.readyState === WebSocket.OPEN)
      this.changed()
    }
    this.sockets = [
      new Socket(this.api, '/dm-service/connect-dm', this.nickname, (frame) => this.receiveMessage(frame), report),
      new Socket(this.api, '/notice-service/connect-notice', this.nickname, (frame) => this.receiveNotice(frame), report),
    ]
  }

  /** @param {Message} message */
  receiveMessage(message) {
    if (!message.sender) return undefined
    this.messages = [...this.messages, message]
    this.unread.messages += 1
    const key = messageKey(message)
    const tap = wire.arrived('message', key)
    this.changed()
    return { tap, key }
  }

  /** @param {{ topic: string, data: Like }} notice */
  receiveNotice(notice) {
    if (notice.topic !== 'like') return undefined
    this.likes = [notice.data, ...this.likes]
    this.unread.notices += 1
    const key = likeKey(notice.data.liker, notice.data.date)
    const tap = wire.arrived('like', key)
    this.changed()
    return { tap, key }
  }

  /** Marks what a screen shows as read. @param {'notices' | 'messages'} which */
  read(which) {
    if (this.unread[which] === 0) return
    this.unread[which] = 0
    this.changed()
  }

  /** Sends a message. Returns it, or null while the socket is not open. @param {string} receiver @param {string} text */
  say(receiver, text) {
    const message = { sender: this.nickname, receiver, date: stamp(), text }
    wire.tapped(messageKey(message))
    if (!this.sockets[0]?.send(message)) return null
    this.messages = [...this.messages, message]
    this.changed()
    return message
  }

  /** The messages with somebody, oldest first. @param {string} other @returns {Promise<Message[]>} */
  history(other) {
    const fields = { sender: this.nickname, receiver: other, timeBoundary: 9999123123595999, messageCnt: 50 }
    return this.api.post('/dm-service/findDirectMessage', fields)
  }

  /** The newest message of each conversation, newest first. @returns {Promise<Message[]>} */
  conversations() {
    return this.api.post('/dm-service/findMultipleDirectMessage', { sender: this.nickname })
  }

  /** Saves the post of a day. @param {Omit<Post, 'nickname' | 'imageIdList'>} post @param {Blob[]} pictures */
  savePost(post, pictures) {
    const { weather, happiness, text, date, isPublic } = post
    const fields = { nickname: this.nickname, date, weather, happiness, categoryList: post.categoryList.join(','), text, isPublic }
    const images = pictures.map((picture, index) => [`imageList[${index}]`, picture])
    return this.api.post('/feed-service/saveFeed', { ...fields, ...Object.fromEntries(images) })
  }

  /** @param {number} date @returns {Promise<Post[]>} */
  month(date) {
    return this.api.post('/feed-service/findMonthFeed', { nickname: this.nickname, date })
  }

  /** @param {number} date @returns {Promise<{ happiness: number, formattedDate: string }[]>} */
  monthHappiness(date) {
    return this.api.post('/feed-service/findMonthHappiness', { nickname: this.nickname, date })
  }

  /** @param {number} date @returns {Promise<{ bestCategoryList: string[], recommendCategoryList: string[] }>} */
  analysis(date) {
    return this.api.post('/feed-service/analysisHappiness', { nickname: this.nickname, date })
  }

  /** The first page of others' public posts. @returns {Promise<Post[]>} */
  async others() {
    return (await this.api.get('/feed-service/findOtherFeed', { nickname: this.nickname, page: 0, size: 25 })).content
  }

  /** Likes a post or takes the like back. Returns whether it is liked now. @param {Post} post @returns {Promise<boolean>} */
  async like(post) {
    if (!post.isLiked) wire.tapped(likeKey(this.nickname, post.date))
    const fields = { srcNickname: this.nickname, nickname: post.nickname, date: post.date }
    return (await this.api.post('/feed-service/updateLike', fields)).like
  }

  /** @param {number} date */
  togglePublic(date) {
    return this.api.post('/feed-service/updatePublicStatus', { nickname: this.nickname, date })
  }

  /** @param {number} date */
  deletePost(date) {
    return this.api.post('/feed-service/deleteFeed', { nickname: this.nickname, date })
  }

  /** @param {string} nickname @param {boolean} blocked */
  setBlocked(nickname, blocked) {
    const fields = { srcNickname: this.nickname, dstNickname: nickname }
    return this.api.post(`/auth-service/${blocked ? 'block' : 'unblock'}`, fields)
  }

  /** The URL of somebody's photo; null when there is none. @param {string} nickname @returns {Promise<string | null>} */
  photo(nickname) {
    let photo = this.photos.get(nickname)
    if (!photo) {
      photo = this.api
        .post('/auth-service/findProfileImg', { nickname })
        .then((found) => (found.profileImg ? `data:image/png;base64,${found.profileImg}` : null))
        .catch(() => null)
      this.photos.set(nickname, photo)
    }
    return photo
  }

  /** @param {string} nickname @returns {Promise<string>} */
  async introduction(nickname) {
    return (await this.api.post('/auth-service/findIntroduction', { nickname })).introduction
  }

  async signOut() {
    await this.api.post('/auth-service/signOut', {})
    this.end()
  }

  /** Leaves for good: the account and everything of it are erased. */
  async resign() {
    await this.api.post('/auth-service/resign', { email: this.account })
    this.end()
  }

  /** Forgets the session. */
  end() {
    for (const socket of this.sockets) socket.close()
    this.api.tokens = null
    this.nickname = ''
    this.account = ''
    this.online = false
    this.likes = []
    this.unread = { notices: 0, messages: 0 }
    this.messages = []
    this.photos = new Map()
    this.sockets = []
    this.changed()
  }
}

/** Returns the address of a picture, which needs no token. @param {number | string} id */
export const pictureUrl = (id) => `/feed-service/image/${id}`
